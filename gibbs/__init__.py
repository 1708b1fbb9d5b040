"""gibbs: serve something slow and blocking from an async program.

```python
async with gibbs.open_hub(MyModel, workers=4) as hub:
    print(await hub.request(x))
```

The rooms: `_wire` is what is said between the processes, `_worker` the child, `_core` what is decided, `_parent` how the hub
acts, `_launch` how workers come to be, `_hub` what a user sees. Each name is loaded when it is first asked for, so that a worker, which imports this package
too, stays light.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gibbs._batched import BatchMismatch as BatchMismatch
    from gibbs._batched import Failed as Failed
    from gibbs._batched import batched as batched
    from gibbs._calls import Calls as Calls
    from gibbs._calls import Endpoint as Endpoint
    from gibbs._calls import Lease as Lease
    from gibbs._core.elastic import Elastic as Elastic
    from gibbs._core.recycling import Recycle as Recycle
    from gibbs._core.restarts import RestartPolicy as RestartPolicy
    from gibbs._errors import GibbsError as GibbsError
    from gibbs._errors import HubClosed as HubClosed
    from gibbs._errors import HubOverloaded as HubOverloaded
    from gibbs._errors import LeaseBroken as LeaseBroken
    from gibbs._errors import MessageTooLarge as MessageTooLarge
    from gibbs._errors import PoisonRequest as PoisonRequest
    from gibbs._errors import RecursiveStart as RecursiveStart
    from gibbs._errors import ReloadFailed as ReloadFailed
    from gibbs._errors import RemoteError as RemoteError
    from gibbs._errors import RestartsExhausted as RestartsExhausted
    from gibbs._errors import WorkerCrashed as WorkerCrashed
    from gibbs._errors import WorkerStartFailed as WorkerStartFailed
    from gibbs._hub import Hub as Hub
    from gibbs._hub import open_hub as open_hub
    from gibbs._job import Job as Job
    from gibbs._launch.command import CommandLauncher as CommandLauncher
    from gibbs._launch.fork import ForkLauncher as ForkLauncher
    from gibbs._launch.local import LocalLauncher as LocalLauncher
    from gibbs._launch.ssh import SSHLauncher as SSHLauncher
    from gibbs._map import Results as Results
    from gibbs._model import CurrentWorker as CurrentWorker
    from gibbs._model import Interrupted as Interrupted
    from gibbs._model import cancelled as cancelled
    from gibbs._model import checkpoint as checkpoint
    from gibbs._model import current_worker as current_worker
    from gibbs._model import function as function
    from gibbs._model import remaining as remaining
    from gibbs._model import report as report
    from gibbs._model import uninterruptible as uninterruptible
    from gibbs._options import Safe as Safe
    from gibbs._records import Ending as Ending
    from gibbs._records import Frame as Frame
    from gibbs._records import Health as Health
    from gibbs._records import HubStatistics as HubStatistics
    from gibbs._records import Origin as Origin
    from gibbs._records import WorkerStack as WorkerStack
    from gibbs._share import SharedArrays as SharedArrays
    from gibbs._share import share as share
    from gibbs._stream import Stream as Stream

__all__ = [
    "BatchMismatch",
    "Calls",
    "CommandLauncher",
    "CurrentWorker",
    "Elastic",
    "Ending",
    "Endpoint",
    "Failed",
    "ForkLauncher",
    "Frame",
    "GibbsError",
    "Health",
    "Hub",
    "HubClosed",
    "HubOverloaded",
    "HubStatistics",
    "Interrupted",
    "Job",
    "Lease",
    "LeaseBroken",
    "LocalLauncher",
    "MessageTooLarge",
    "Origin",
    "PoisonRequest",
    "RecursiveStart",
    "Recycle",
    "ReloadFailed",
    "RemoteError",
    "RestartPolicy",
    "RestartsExhausted",
    "Results",
    "SSHLauncher",
    "Safe",
    "SharedArrays",
    "Stream",
    "WorkerCrashed",
    "WorkerStack",
    "WorkerStartFailed",
    "batched",
    "cancelled",
    "checkpoint",
    "current_worker",
    "function",
    "open_hub",
    "remaining",
    "report",
    "share",
    "uninterruptible",
]

# Where each is when it is asked for.
_HOME = {
    "BatchMismatch": "gibbs._batched",
    "Calls": "gibbs._calls",
    "CommandLauncher": "gibbs._launch.command",
    "CurrentWorker": "gibbs._model",
    "Elastic": "gibbs._core.elastic",
    "Ending": "gibbs._records",
    "Endpoint": "gibbs._calls",
    "Failed": "gibbs._batched",
    "ForkLauncher": "gibbs._launch.fork",
    "Frame": "gibbs._records",
    "GibbsError": "gibbs._errors",
    "Health": "gibbs._records",
    "Hub": "gibbs._hub",
    "HubClosed": "gibbs._errors",
    "HubOverloaded": "gibbs._errors",
    "HubStatistics": "gibbs._records",
    "Interrupted": "gibbs._model",
    "Job": "gibbs._job",
    "Lease": "gibbs._calls",
    "LeaseBroken": "gibbs._errors",
    "LocalLauncher": "gibbs._launch.local",
    "MessageTooLarge": "gibbs._errors",
    "Origin": "gibbs._records",
    "PoisonRequest": "gibbs._errors",
    "RecursiveStart": "gibbs._errors",
    "Recycle": "gibbs._core.recycling",
    "ReloadFailed": "gibbs._errors",
    "RemoteError": "gibbs._errors",
    "RestartPolicy": "gibbs._core.restarts",
    "RestartsExhausted": "gibbs._errors",
    "Results": "gibbs._map",
    "SSHLauncher": "gibbs._launch.ssh",
    "Safe": "gibbs._options",
    "SharedArrays": "gibbs._share",
    "Stream": "gibbs._stream",
    "WorkerCrashed": "gibbs._errors",
    "WorkerStack": "gibbs._records",
    "WorkerStartFailed": "gibbs._errors",
    "batched": "gibbs._batched",
    "cancelled": "gibbs._model",
    "checkpoint": "gibbs._model",
    "current_worker": "gibbs._model",
    "function": "gibbs._model",
    "open_hub": "gibbs._hub",
    "remaining": "gibbs._model",
    "report": "gibbs._model",
    "share": "gibbs._share",
    "uninterruptible": "gibbs._model",
}

if not TYPE_CHECKING:  # a __getattr__ that type checkers see would make every misspelt name legal
    _MOVED = {  # what gibbs 0.3 had
        "Worker": "gibbs 0.4 has no Worker: open_hub starts and supervises the workers; see docs/moving.md",
        "UserCodeException": "gibbs 0.4 has no UserCodeException: a model's exception is raised as itself, or as a "
        "RemoteError if it cannot travel; see docs/moving.md",
    }

    def __getattr__(name):
        if name in _MOVED:
            from sys import _getframe

            # `from gibbs import Worker` replaces an AttributeError by words of its own.
            importing = _getframe(1).f_code.co_name == "_handle_fromlist"
            raise (ImportError if importing else AttributeError)(_MOVED[name])
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
