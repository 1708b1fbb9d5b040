"""Workers on other machines over the OpenSSH client: a command launcher that knows how ssh is called, and what it says.

No port is opened and none is dialled back to: who the hosts are, who may log in, and that nobody listens in, is ssh's, whose keys and
known_hosts are the best there is for it.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from ..abc import Launcher, Traits
from .command_process import SIGNS_MISSED, Command
from .command_session import open_session
from .options import check_devices, check_env, check_keepalive, check_output, check_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from ..abc import WorkerSpec
    from .command_session import CommandSession
    from .output import Destination

_LINK_FAILED = 255  # the client's own exit status; every other one is the remote command's
_STARTS_AT_ONCE = 4  # on one host; sshd begins to turn away at 10 that have not logged in yet (`MaxStartups`)
_REFUSED = (
    "Permission denied (",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
)


@dataclass(frozen=True, slots=True)
class SSHLauncher(Launcher):
    """Workers on other machines, over the OpenSSH client of this one.

    Each worker is the remote end of one `ssh host`. Logging in must need no questions: a key, or an agent, and a known host. gibbs, and
    all that the model imports, must be installed there, in the same version, with the same version of Python; what lives in a script, a
    notebook or a function travels with the hub.

    A worker ends with its connection, also in the midst of a call. A host that says nothing any more is noticed after three `keepalive`:
    its requests raise WorkerCrashed with `may_still_run=True`, and its worker ends itself as soon as it has missed as many signs.

    Args:
        hosts: where to run workers, as ssh takes them: "gpu1", "me@gpu2", an alias of its configuration. The seats have them in turn, so a
            host that is named twice has twice as many.
        python: the Python to run there: a program, or a sequence of a program and its arguments.
        directory: where to start it there; modules are also found in it. None: where a login begins.
        env: environment variables for the workers.
        options: further arguments for ssh, such as `("-p", "2222", "-i", "key")`. They come before those of this launcher, so they win.
        ssh: the client.
        output: where lines go that a worker writes, or ssh itself: as in `LocalLauncher`.
        devices: names that mean something to the model; the seats have them in turn, as `gibbs.current_worker().device`.
        keepalive: seconds between two signs of life, both ways.

    Raises:
        TypeError, ValueError: an argument makes no sense.

    Example:
        ```python
        fleet = gibbs.SSHLauncher(["gpu1", "gpu2"], python="/opt/venv/bin/python")
        async with gibbs.open_hub(Model, workers=4, launcher=fleet) as hub:  # two on each
            ...
        ```
    """

    hosts: Sequence[str]
    _: KW_ONLY
    python: str | Sequence[str] = "python3"
    directory: str | None = None
    env: Mapping[str, str] | None = None
    options: Sequence[str] = ()
    ssh: str = "ssh"
    output: Destination = "stderr"
    devices: Sequence[str] = ()
    keepalive: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", check_words("hosts", self.hosts))
        if not self.hosts:
            raise ValueError("hosts must name a host, and is empty")
        for host in self.hosts:
            if not host or host.startswith("-") or any(char.isspace() for char in host):
                raise ValueError(f"hosts must be names that ssh can be given, not {host!r}")
        python: Any = self.python
        object.__setattr__(self, "python", (python,) if isinstance(python, str) else check_words("python", python))
        if not self.python:
            raise ValueError("python must name a program, and is empty")
        object.__setattr__(self, "options", check_words("options", self.options))
        for name in ("directory", "ssh"):
            value: Any = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name == "directory"):
                raise TypeError(f"{name} must be a string, not {value!r}")
        check_env(self.env)
        check_output(self.output)
        object.__setattr__(self, "devices", check_devices(self.devices))
        check_keepalive(self.keepalive, required=True)

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        return Traits(
            same_host=False,
            kill_is_certain=False,
            exit_status="code",
            silent_loss_within=SIGNS_MISSED * self.keepalive,
            last_words=True,
        )

    def session(self) -> AbstractAsyncContextManager[CommandSession]:
        """What the workers of one hub share: the tasks that read their output."""
        command = Command(
            launcher="ssh",
            argv=self._argv,
            host=self._host,
            env=None,
            output=self.output,
            devices=tuple(self.devices),
            keepalive=self.keepalive,
            lost=frozenset({_LINK_FAILED}),
            at_once=_STARTS_AT_ONCE,
            refused=_REFUSED,
        )
        return open_session(command)

    def _host(self, spec: WorkerSpec) -> str:
        return self.hosts[spec.turn % len(self.hosts)]

    def _argv(self, spec: WorkerSpec) -> list[str]:
        settings = {
            "BatchMode": "yes",  # asks nothing
            "StrictHostKeyChecking": "yes",
            "ClearAllForwardings": "yes",
            "ServerAliveInterval": str(math.ceil(self.keepalive)),
            "ServerAliveCountMax": str(SIGNS_MISSED),
        }
        ours = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        return [self.ssh, *self.options, "-T", *ours, "--", self._host(spec), self._there()]

    def _there(self) -> str:
        """What the user's shell is told there. It makes way for the worker, whose exit status is then what ssh brings back."""
        words = [*self.python, "-m", "gibbs.worker", "--stdio"]
        if self.env:
            words = ["env", *(f"{name}={value}" for name, value in self.env.items()), *words]
        first = f"cd {shlex.quote(self.directory)} && " if self.directory else ""
        return f"{first}exec {shlex.join(words)}"


SSHLauncher.__module__ = "gibbs"
