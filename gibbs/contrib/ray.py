"""Workers in a Ray cluster: Ray finds a place, and gibbs speaks.

Each worker is a Ray actor that dials this program back, and then serves as every other worker does, on a stream of its own. Requests do not go
through Ray. The driver is yours: gibbs never calls `ray.init` or `ray.shutdown`.

Example:
    ```python
    ray.init(address="auto")
    cluster = RayLauncher(num_gpus=1)
    async with gibbs.open_hub(Model, workers=8, launcher=cluster, ready=1, start_timeout=600) as hub:
        ...
    ```
"""

from __future__ import annotations

import math
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from .._launch.options import check_env, check_keepalive
from .._launch.reception import open_reception
from .._wire import keepalive as tcp
from ..abc import LaunchRefused, Traits
from ._ray_actor import references
from ._ray_session import RaySession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from ..abc import LaunchSession, WorkerProcess, WorkerSpec

__all__ = ["RayLauncher"]

_NO_DRIVER = "there is no Ray in this program: call ray.init(), which is never done for you, before the hub is opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayLauncher:
    """Workers as actors of the Ray cluster that this program has joined by `ray.init`.

    gibbs, and all that the model imports, must be installed there, in the same version, with the same version of Python; what lives in a
    script, a notebook or a function travels with the hub. The workers dial this program: their nodes must reach a port of it.

    Ray neither restarts a worker nor repeats a request; that is the hub's part, as for any worker. An actor for which there is no place waits
    for one, for which `start_timeout` is the end. Arguments and results may be, or contain, `ray.ObjectRef`s.

    A worker ends with its connection. One that dies on a node which lives is gone for certain; a node that is lost, or says nothing any more for
    three `keepalive`, is not: its requests raise WorkerCrashed with `may_still_run=True`. See docs/cluster.md.

    Args:
        num_cpus: CPUs that Ray sets aside for each worker.
        num_gpus: GPUs for each, or a part of one. Ray tells the model which by CUDA_VISIBLE_DEVICES.
        memory: bytes that Ray counts for each.
        resources: others that the cluster knows by name, and how much of each.
        scheduling_strategy: where Ray shall place them, as its actors take it.
        runtime_env: what Ray shall prepare for them: packages, a working directory, environment variables.
        env: environment variables for the workers, over those of `runtime_env`.
        host: the address of this program that workers dial, and on which it listens. None: the one by which Ray knows this node.
        port: on which it listens, or several of which the first is taken that is free; 0 for any. A hub needs one.
        encrypt: True: by a secret that is made for each worker, and known to nobody else. False: not at all, for a network in which nobody
            listens in or meddles; both ends still prove who they are. Or a server's SSLContext, and a function that makes a worker's; it travels
            to the worker.
        keepalive: seconds between two signs of life, both ways.

    Raises:
        TypeError, ValueError: an argument makes no sense.

    Example:
        ```python
        cluster = RayLauncher(num_gpus=1, resources={"a100": 1})
        async with gibbs.open_hub(Model, workers=8, launcher=cluster, ready=1, start_timeout=600) as hub:
            ...
        ```
    """

    num_cpus: float = 1
    num_gpus: float = 0
    memory: int | None = None
    resources: Mapping[str, float] | None = None
    scheduling_strategy: Any = None
    runtime_env: Mapping[str, Any] | None = None
    env: Mapping[str, str] | None = None
    host: str | None = None
    port: int | Sequence[int] = 0
    encrypt: bool | tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]] = True
    keepalive: float = 5.0

    def __post_init__(self) -> None:
        for name in ("num_cpus", "num_gpus"):
            _check_amount(name, getattr(self, name))
        if self.memory is not None:
            _check_amount("memory", self.memory)
        for name in ("resources", "runtime_env"):
            value: Any = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(f"{name} must be a mapping, not {value!r}")
        for name, amount in (self.resources or {}).items():
            _check_amount(f"resources[{name!r}]", amount)
        check_env(self.env)
        host: Any = self.host
        if host is not None and (not isinstance(host, str) or not host):
            raise TypeError(f"host must be an address, not {host!r}")
        object.__setattr__(self, "port", _checked_ports(self.port))
        _check_encrypt(self.encrypt)
        check_keepalive(self.keepalive, required=True)

    @property
    def traits(self) -> Traits:
        """What its workers can promise."""
        return Traits(
            same_host=False,
            kill_is_certain=False,
            exit_status="none",
            silent_loss_within=tcp.bound(self.keepalive),
            listens=True,
            last_words=True,
        )

    def session(self) -> AbstractAsyncContextManager[LaunchSession]:
        """What the workers of one hub share: the port that they dial."""
        return self._session()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[LaunchSession]:
        ray: Any = sys.modules.get("ray")  # who has called `ray.init` has imported it
        if ray is None or not ray.is_initialized():
            yield _Refusing(_NO_DRIVER)
            return
        host: str = self.host if self.host is not None else await anyio.to_thread.run_sync(ray.util.get_node_ip_address)
        ports = self.port
        assert isinstance(ports, tuple)
        async with AsyncExitStack() as stack:
            refused: LaunchRefused | None = None
            try:
                reception = await stack.enter_async_context(
                    open_reception(host, ports, encrypt=self.encrypt, keepalive=self.keepalive)
                )
            except LaunchRefused as error:
                refused = error
            if refused is not None:
                yield _Refusing(str(refused))
                return
            tg = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tg.cancel_scope.cancel)
            stack.enter_context(references())
            context = self.encrypt[1] if isinstance(self.encrypt, tuple) else None
            session = RaySession(reception, tg, self._options(), context, silence=self.traits.silent_loss_within)
            try:
                yield session
            finally:
                await session.end()

    def _options(self) -> dict[str, Any]:
        """What Ray is asked for, for each actor. Whatever is tried again is for the hub to decide."""
        runtime_env = dict(self.runtime_env or {})
        if self.env:
            runtime_env["env_vars"] = {**runtime_env.get("env_vars", {}), **self.env}
        asked = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "memory": self.memory,
            "resources": dict(self.resources or {}) or None,
            "scheduling_strategy": self.scheduling_strategy,
            "runtime_env": runtime_env or None,
        }
        ours = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 1}
        return {name: value for name, value in asked.items() if value is not None} | ours


class _Refusing:
    """A session without what it needs: it says so to whoever wants a worker."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def launch(self, _spec: WorkerSpec) -> WorkerProcess:
        raise LaunchRefused(self._why)


def _check_amount(name: str, amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(f"{name} must be a number, not {amount!r}")
    if not 0 <= amount < math.inf:
        raise ValueError(f"{name} must be 0 or more, and finite, not {amount!r}")


def _checked_ports(port: Any) -> tuple[int, ...]:
    ports = tuple(port) if isinstance(port, Sequence) and not isinstance(port, str | bytes) else (port,)
    if not ports or any(isinstance(one, bool) or not isinstance(one, int) for one in ports):
        raise TypeError(f"port must be a number, or a sequence of some, not {port!r}")
    if any(not 0 <= one < 1 << 16 for one in ports):
        raise ValueError(f"port must be from 0 to 65535, not {port!r}")
    return ports


def _check_encrypt(encrypt: Any) -> None:
    if isinstance(encrypt, bool):
        return
    is_pair = isinstance(encrypt, tuple) and len(encrypt) == 2
    if not is_pair or not isinstance(encrypt[0], ssl.SSLContext) or not callable(encrypt[1]):
        raise TypeError(
            f"encrypt must be True, False, or a pair (an SSLContext, what makes a worker's), not {encrypt!r}"
        )


RayLauncher.__module__ = "gibbs.contrib.ray"
