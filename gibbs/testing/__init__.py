"""What tests of hubs, of launchers and of models need: workers in memory, the check of a launcher, the sweep.

`ScriptedLauncher` starts no process: its workers live in the event loop, do what a script says, and speak to the hub as
real ones do, so hub tests are quick and run under a virtual clock. `InBand` takes a launcher's side channel away.
`check_launcher` tries all that a hub expects of a launcher. `sweep` cancels an async function at each of its checkpoints,
or does there what it is told.

Names are loaded when first asked for: `check_launcher` sends a worker a model of this package, and workers stay light.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._check_launcher import check_launcher as check_launcher
    from ._in_band import InBand as InBand
    from ._memory_process import Message as Message
    from ._scripted import ScriptedLauncher as ScriptedLauncher
    from ._scripted_worker import ScriptedWorker as ScriptedWorker
    from ._scripted_worker import serve as serve
    from ._sweep import Step as Step
    from ._sweep import sweep as sweep

__all__ = [
    "InBand",
    "Message",
    "ScriptedLauncher",
    "ScriptedWorker",
    "Step",
    "check_launcher",
    "serve",
    "sweep",
]

if not TYPE_CHECKING:  # a __getattr__ that type checkers see would make every misspelt name legal
    _HOME = {
        "InBand": "_in_band",
        "Message": "_memory_process",
        "ScriptedLauncher": "_scripted",
        "ScriptedWorker": "_scripted_worker",
        "Step": "_sweep",
        "check_launcher": "_check_launcher",
        "serve": "_scripted_worker",
        "sweep": "_sweep",
    }

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
