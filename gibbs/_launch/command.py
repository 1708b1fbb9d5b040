"""The launcher for workers at the other end of a command: a program whose stdin and stdout reach `python -m gibbs.worker --stdio`.

Knows options. What is run, and what its end says, is `command_process`'s.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from ..abc import Launcher, Traits, WorkerSpec
from .command_process import Command
from .command_session import open_session
from .options import check_devices, check_env, check_keepalive, check_output, check_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from .command_session import CommandSession
    from .output import Destination


@dataclass(frozen=True, slots=True)
class CommandLauncher(Launcher):
    """Workers at the other end of a command: any program whose stdin and stdout reach `python -m gibbs.worker --stdio`.

    Such as `srun`, `docker run -i`, `kubectl run -i`; for ssh there is `SSHLauncher`. One command is run for each worker. gibbs, and all
    that the model imports, must be installed where the worker runs, in the same version, with the same version of Python; what lives in a
    script, a notebook or a function travels with the hub. Both ends trust what the command says it has reached.

    What is lost against a worker on this machine: arrays travel in the stream; what it was sent ahead is lost with it when it dies; and where the
    command itself ends, nobody can say whether the worker still runs (`WorkerCrashed.may_still_run`), though a worker ends itself as soon as its stream
    does. See docs/cluster.md.

    Args:
        argv: the program and its arguments, the same for each worker; or a function `(gibbs.abc.WorkerSpec)` that returns them.
        env: environment variables for the command, over those of this program. What of it reaches the worker is the command's matter.
        output: where lines go that the command, or the worker, writes to stderr, and that the model writes to stdout: as in
            `LocalLauncher`.
        devices: names that mean something to the model; the seats have them in turn, as `gibbs.current_worker().device`.
        keepalive: seconds between two signs of life that the hub gives a worker. One that misses three in a row takes its hub to be gone,
            and ends. None: it waits for the end of its stream alone.
        lost: exit statuses of the command that are its own and not the worker's, such as 125 of `docker run`: after one of them the
            worker may still run.

    Raises:
        TypeError, ValueError: an argument makes no sense.

    Example:
        ```python
        slurm = gibbs.CommandLauncher(["srun", "--ntasks=1", "--gres=gpu:1", "python3", "-m", "gibbs.worker", "--stdio"])
        async with gibbs.open_hub(Model, workers=16, launcher=slurm, start_timeout=600) as hub:
            ...
        ```
    """

    argv: Sequence[str] | Callable[[WorkerSpec], Sequence[str]]
    _: KW_ONLY
    env: Mapping[str, str] | None = None
    output: Destination = "stderr"
    devices: Sequence[str] = ()
    keepalive: float | None = 5.0
    lost: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not callable(self.argv):
            object.__setattr__(self, "argv", check_words("argv", self.argv))
            if not self.argv:
                raise ValueError("argv must name a program, and is empty")
        check_env(self.env)
        check_output(self.output)
        object.__setattr__(self, "devices", check_devices(self.devices))
        check_keepalive(self.keepalive)
        lost: Any = self.lost
        if isinstance(lost, str) or not all(isinstance(one, int) and 0 <= one <= 255 for one in lost):
            raise TypeError(f"lost must be a sequence of exit statuses, not {lost!r}")
        object.__setattr__(self, "lost", tuple(lost))

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        return Traits(same_host=False, kill_is_certain=False, exit_status="code", silent_loss_within=None)

    def session(self) -> AbstractAsyncContextManager[CommandSession]:
        """What the workers of one hub share: the tasks that read their output."""
        argv = self.argv
        command = Command(
            launcher="command",
            argv=argv if callable(argv) else lambda _: argv,
            host=lambda _: "",
            env=self.env,
            output=self.output,
            devices=tuple(self.devices),
            keepalive=self.keepalive,
            lost=frozenset(self.lost),
        )
        return open_session(command)


CommandLauncher.__module__ = "gibbs"
