"""What every test has: four loops from one fixture, and fixtures that accuse whoever leaves something behind or blocks the loop.

Tests are imported with `--import-mode=importlib`: no test module can be imported by name, this one included. What tests need from here are fixtures.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import os
import re
import signal
import sys
import threading
import time
import types
import uuid
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.pytest_plugin
import pytest
from hypothesis import HealthCheck, settings

# A shell starts what runs in its background with SIGINT and SIGQUIT ignored, nohup does so with SIGHUP, and children inherit
# that: no program of ours could be ended by its terminal then.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# ----------------------------------------------------------------------------------------------------------- Hypothesis

settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile(
    "long", deadline=None, max_examples=5_000, stateful_step_count=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

# ---------------------------------------------------------------------------------------------------------------- loops


def needs(module: str) -> list[pytest.MarkDecorator]:
    return [] if importlib.util.find_spec(module) else [pytest.mark.skip(reason=f"{module} is not installed")]


LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=needs("uvloop")),
    pytest.param(("trio", {}), id="trio", marks=needs("trio")),
]
if sys.version_info >= (3, 12):

    def eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS.append(pytest.param(("asyncio", {"loop_factory": eager_loop}), id="asyncio-eager"))


# AnyIO's runner of tests lets every callback of the loop know which loop it is, as `anyio.run` does. Under `asyncio.run`, and so in every web server,
# nobody knows outside of a task; what forgets it must fail here too.
assert hasattr(anyio.pytest_plugin, "set_current_async_library")
anyio.pytest_plugin.set_current_async_library = lambda _: None


@pytest.fixture(scope="module", params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A module's tests run on one loop after the other. Module scope, as anyio's own, so that a module may share a hub."""
    backend, options = request.param
    if options.get("use_uvloop"):
        # libuv opens a pipe for signals with the first loop of a process and keeps it: it shall be no test's fault.
        import uvloop

        uvloop.new_event_loop().close()
    return backend, options


# ---------------------------------------------------------------------------------- what is left behind: the inventory

LINUX = sys.platform == "linux"
MARK = (
    f"GIBBS_TEST_RUN={uuid.uuid4().hex}"  # inherited by all that we start: an orphan is known by it, whoever adopted it
)
os.environ.update([MARK.split("=")])


def pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} if LINUX else set()


def relation(pid: int) -> str | None:
    """ "process": our child, running or not reaped. "orphan": descends from us, and somebody else's now. None: gone, or not ours.

    "executing": it shows no environment yet, as for a moment after its execve has told its parent that all went well.

    A zombie whose parent is another is gone: whether that one reaps it is not ours to say (in a container, process 1 often never does).
    """
    with contextlib.suppress(OSError, ValueError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        if int(parent) == os.getpid():
            return "process"
        if state in "ZX":
            return None
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if MARK.encode() in environment.split(b"\0"):
            return "orphan"
        if not environment and os.readlink(f"/proc/{pid}/exe"):  # which a thread of the kernel has not
            return "executing"
    return None


def described(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"{pid} (just gone)"
    return f"{pid} [{state}] {command[:120]}"


def descriptors() -> Counter[str]:
    """Open descriptors by what they lead to. Sockets, pipes and memfds are told apart by inode, the others counted."""
    targets: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd") if LINUX else []:
        with contextlib.suppress(OSError):  # the descriptor of this listing itself
            targets[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return targets


def memfds() -> set[str]:
    """Our shared memory that is still mapped, by inode: it outlives its descriptor."""
    if not LINUX:
        return set()
    return set(re.findall(r" (\d+ +/memfd:gibbs.*)", Path("/proc/self/maps").read_text()))


def threads() -> set[threading.Thread]:
    # Trio keeps idle threads for ten seconds, for the next one who needs a thread; busy ones bear another name.
    return {t for t in threading.enumerate() if not re.fullmatch(r"Trio thread \d+", t.name)}


@dataclass(frozen=True)
class Inventory:
    """What this process had at one moment, and `left()`: what it has more now."""

    pids: set[int]
    threads: set[threading.Thread]
    descriptors: Counter[str]
    memfds: set[str]

    @classmethod
    def take(cls) -> Inventory:
        return cls(pids(), threads(), descriptors(), memfds())

    def left(self, *, grace: float = 10.0) -> dict[str, list[str]]:
        """Findings by kind: empty is innocent.

        Grace is for what ends by itself after its owner let go, and cannot be waited for: a thread that returns, an orphan under SIGKILL.
        A child must have been reaped and a descriptor closed by the time that the test has ended: none for them.
        """
        started: list[tuple[int, str]] = []
        until = time.monotonic() + grace
        while True:
            is_last = time.monotonic() > until  # before the look, for a process that stands still behind it
            new = sorted(pids() - self.pids)
            started = [(pid, kind) for pid in new if (kind := relation(pid))]
            alive = threads() - self.threads
            settled = not alive and all(kind == "process" for _, kind in started)
            if settled or is_last:
                break
            time.sleep(0.005)
        found = {
            "process": [described(pid) for pid, kind in started if kind == "process"],
            "orphan": [described(pid) for pid, kind in started if kind == "orphan"],
            "thread": [repr(thread) for thread in alive],
            "descriptor": sorted((descriptors() - self.descriptors).elements()),
            "memfd": sorted(memfds() - self.memfds),
        }
        return {kind: things for kind, things in found.items() if things}

    def sweep(self) -> None:
        """End what was left, so that one guilty test is one accusation and no process outlives the run."""
        for pid in pids() - self.pids:
            if (kind := relation(pid)) in ("process", "orphan"):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    if kind == "process":
                        os.waitpid(pid, 0)


def accuse(request: pytest.FixtureRequest, found: dict[str, list[str]]) -> None:
    allowed: set[str] = set()
    for marker in request.node.iter_markers("leaves"):
        assert marker.kwargs.get("reason"), "leaves() needs a reason"
        allowed.update(marker.args)
    lines = [
        f"left behind: {kind} {thing}" for kind, things in found.items() if kind not in allowed for thing in things
    ]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.fixture
def take_inventory() -> Callable[[], Inventory]:
    """For tests that look in the middle: `before = take_inventory(); ...; assert not before.left()`."""
    return Inventory.take


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No child, orphan, thread, descriptor or mapping outlives a test.

    No exception is made for the event loop's own descriptors, and none is needed: this fixture is synchronous, the first of its scope and so the
    last to be torn down. anyio's plugin closes the loop with the last async fixture of the test (or holds it since before the test, for a wider
    fixture, and then it is in both inventories).
    """
    before = Inventory.take()
    yield
    found = before.left()
    before.sweep()
    accuse(request, found)


# ------------------------------------------------------------------------------------------------ what is left: tasks


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    """Each async test gets the fixture below, in the way in which anyio's plugin gives it `anyio_backend`."""
    if collector.istestfunction(obj, name):
        inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
        if inspect.iscoroutinefunction(inner):
            pytest.mark.usefixtures("leaves_no_task")(obj)


def tasks() -> dict[int, str]:
    # The plugin makes a task for each step it asks of its runner: that one is waiting for us.
    every = anyio.get_running_tasks()
    return {
        task.id: repr(task) for task in every if "_call_in_runner_task" not in getattr(task.coro, "__qualname__", "")
    }


@pytest.fixture
async def leaves_no_task(request: pytest.FixtureRequest, leaves_nothing_behind: None) -> AsyncIterator[None]:
    """No task outlives a test: looked at while the loop still runs, since closing it cancels all and hides them."""
    before = tasks()
    yield
    accuse(request, {"task": [task for ident, task in tasks().items() if ident not in before]})


# ------------------------------------------------------------------------------------------------- who blocks the loop

TESTS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_spec = importlib.util.find_spec("gibbs")
LIBRARY = os.path.dirname(os.path.abspath(_spec.origin)) + os.sep if _spec and _spec.origin else None


def plays_a_worker(frame: types.FrameType | None) -> bool:
    """Whether a scripted worker's code runs, which stands for a process that may block."""
    while frame is not None:
        if frame.f_code.co_filename.endswith("testing/_scripted_worker.py"):
            return True
        frame = frame.f_back
    return False


def culprit(frame: types.FrameType | None, library: str | None) -> str | None:
    """Which place of the library blocks, by the innermost frame that is a test's or ours; None if it may, or if it is not ours."""
    spawning = False
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        if name.startswith((TESTS, "<frozen importlib")) or function == "<module>":
            return None  # a test's own code, also one that the library calls; an import
        if name.endswith(("logging/__init__.py", "_launch/output.py")) and function in ("emit", "to_stderr"):
            return None  # where a program's log and its standard error go is the program's affair
        if name.endswith("threading.py") and function == "start":
            return None  # until the new thread runs: for each worker that is one
        if name.endswith("linecache.py"):
            return None  # a traceback as text quotes its sources, as any log of it does
        if name.endswith("subprocess.py") and function in ("__init__", "_execute_child"):
            spawning = True
        if library and name.startswith(library):
            if spawning and re.fullmatch(r"_launch/(local|process|command|ends)\w*\.py", name[len(library) :]):
                return None  # blocks 0.3 ms for each spawn: decided (design.md §2.4), cheaper than a thread
            if name.endswith(("_parent/memory.py", "_launch/forked.py", "_launch/standstill.py")):
                return None  # reads what the kernel knows of a process: there is no disk behind it
            if name.endswith("_wire/recipe.py"):
                return None  # looks, while a hub opens, where modules are, as an import does
            if name.endswith("_wire/failure.py") and plays_a_worker(frame):
                return None  # formats a traceback, which looks for source files
            return f"{name}:{frame.f_lineno} in {function}"
        frame = frame.f_back
    return None


@contextlib.contextmanager
def watching(library: str | None) -> Iterator[list[str]]:
    """blockbuster, with two changes: it knows Trio's tasks too, and it remembers (the error may be swallowed by a shield of ours)."""
    from blockbuster import BlockBuster, blockbuster

    seen: list[str] = []

    def in_a_loop() -> None:
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_task():
            asyncio.get_running_loop()

    def may_block(unchanged: Callable[..., bool], what: str) -> Callable[..., bool]:
        def predicate(*args: Any, **kwargs: Any) -> bool:
            if unchanged(*args, **kwargs) or (place := culprit(sys._getframe(2), library)) is None:
                return True
            seen.append(f"{what} blocks the event loop: {place}")
            return False

        return predicate

    buster = BlockBuster()
    for function in buster.functions.values():
        function.can_block_predicate = may_block(function.can_block_predicate, function.full_name)
    original = blockbuster.asyncio
    blockbuster.asyncio = types.SimpleNamespace(get_running_loop=in_a_loop)
    buster.activate()
    try:
        yield seen
    finally:
        buster.deactivate()
        blockbuster.asyncio = original


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest, leaves_nothing_behind: None) -> Iterator[None]:
    """Library code that blocks the loop of an async test fails that test. What the tests themselves do there is their business."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with watching(LIBRARY) as seen:
        yield
    if seen:
        pytest.fail("\n".join(dict.fromkeys(seen)), pytrace=False)


@pytest.fixture
def watch_for_blocking() -> Callable[[str], contextlib.AbstractContextManager[list[str]]]:
    """The same watch over another folder, for the test that it sees."""
    return watching


# --------------------------------------------------------------------------------------------------- which cases are run


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "in_turn(share=1): one case in so many, on one loop; with GIBBS_LONG in the environment all, on all loops",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip: what is left out is shown by another case, or on another loop. Who asks for a test by its name gets it."""
    if "GIBBS_LONG" in os.environ or all("::" in argument for argument in config.args):
        return
    loops: dict[Any, int] = {}
    turned: list[Any] = [
        item
        for item in items
        if item.get_closest_marker("in_turn") and "anyio_backend" in getattr(item, "callspec", NO_LOOP).indices
    ]
    for item in turned:
        loops[item.path] = max(loops.get(item.path, 0), 1 + loop_of(item))
    left = [item for item in turned if turn_of(item) % (loops[item.path] * share_of(item)) != loop_of(item)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


NO_LOOP = types.SimpleNamespace(indices={})  # of a test without any


def turn_of(item: Any) -> int:
    """A number for each case, the same for all loops and in every run."""
    return zlib.crc32(re.sub(r"\b(asyncio|uvloop|trio)\b", "", item.name).encode())


def share_of(item: Any) -> int:
    return int(item.get_closest_marker("in_turn").kwargs.get("share", 1))


def loop_of(item: Any) -> int:
    return int(item.callspec.indices["anyio_backend"])
