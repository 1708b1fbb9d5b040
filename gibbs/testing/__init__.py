"""What tests of apps, hubs, launchers and models need: hubs without processes, and trouble on purpose.

`open_inline_hub` gives a real hub whose workers are threads of this process. `crash` and `hang` do to a worker of any hub what befalls
workers. `gibbs.testing.strategies` has values that travel, and that do not, for Hypothesis; `gibbs.testing.fixtures` a fixture for pytest
that accuses a test which leaves a process behind.

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
    from ._inline import InlineLauncher as InlineLauncher
    from ._inline import open_inline_hub as open_inline_hub
    from ._message import Message as Message
    from ._scripted import ScriptedLauncher as ScriptedLauncher
    from ._scripted_worker import ScriptedWorker as ScriptedWorker
    from ._scripted_worker import serve as serve
    from ._sweep import Step as Step
    from ._sweep import sweep as sweep
    from ._trouble import crash as crash
    from ._trouble import hang as hang

__all__ = [
    "InBand",
    "InlineLauncher",
    "Message",
    "ScriptedLauncher",
    "ScriptedWorker",
    "Step",
    "check_launcher",
    "crash",
    "hang",
    "open_inline_hub",
    "serve",
    "sweep",
]

if not TYPE_CHECKING:  # a __getattr__ that type checkers see would make every misspelt name legal
    _HOME = {
        "InBand": "_in_band",
        "InlineLauncher": "_inline",
        "Message": "_message",
        "ScriptedLauncher": "_scripted",
        "ScriptedWorker": "_scripted_worker",
        "Step": "_sweep",
        "check_launcher": "_check_launcher",
        "crash": "_trouble",
        "hang": "_trouble",
        "open_inline_hub": "_inline",
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
