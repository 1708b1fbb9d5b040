"""A check that cannot fail is worthless: each accusing fixture is shown something to accuse, and an innocent."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


def test_nothing_done_is_nothing_found(take_inventory):
    before = take_inventory()
    assert before.left() == {}


@linux
def test_a_running_child_is_found(take_inventory):
    before = take_inventory()
    with subprocess.Popen(SLEEPER) as child:
        found = before.left()
        child.kill()
    assert [*found] == ["process"]
    assert found["process"][0].startswith(f"{child.pid} [")
    assert before.left() == {}


@linux
def test_a_child_that_nobody_reaped_is_found(take_inventory):
    before = take_inventory()
    child = subprocess.Popen(SLEEPER)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = before.left()
    child.wait()
    assert found["process"][0].startswith(f"{child.pid} [Z]")


def an_orphan() -> int:
    """A process of ours that is another's child now, when it shows its environment."""
    start = f"import subprocess, sys; print(subprocess.Popen({SLEEPER!r}, stdout=subprocess.DEVNULL, start_new_session=True).pid)"
    orphan = int(subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, check=True).stdout)
    while not Path(f"/proc/{orphan}/environ").read_bytes():
        time.sleep(0.001)
    return orphan


@linux
def test_an_orphan_is_found_and_ended(take_inventory):
    before = take_inventory()
    orphan = an_orphan()
    found = before.left(grace=0.05)
    assert [*found] == ["orphan"]
    assert found["orphan"][0].startswith(f"{orphan} [")
    before.sweep()
    assert before.left() == {}


@linux
def test_an_orphan_is_found_that_shows_no_environment_yet(take_inventory, monkeypatch):
    before = take_inventory()
    orphan = an_orphan()
    read_bytes, empty = Path.read_bytes, [b"", b""]

    def in_the_moment_of_its_execve(path):
        return empty.pop() if empty and str(path) == f"/proc/{orphan}/environ" else read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", in_the_moment_of_its_execve)
    found = before.left(grace=0.5)
    before.sweep()
    assert [*found] == ["orphan"]
    assert not empty


@linux
def test_a_zombie_with_a_foreign_parent_is_gone(take_inventory):
    before = take_inventory()
    # The child has a child that has ended and that it does not reap.
    mother = "import os, time; pid = os.fork(); pid or os._exit(0); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); print(pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-S", "-c", mother], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        zombie = int(child.stdout.readline())
        assert Path(f"/proc/{zombie}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        found = before.left(grace=0.05)
        child.kill()
    assert "orphan" not in found


@linux
@pytest.mark.parametrize("kind", ["socket", "pipe", "file", "epoll"])
def test_an_open_descriptor_is_found(take_inventory, tmp_path, kind):
    before = take_inventory()
    if kind == "socket":
        fds = [end.detach() for end in socket.socketpair()]
    elif kind == "pipe":
        fds = [*os.pipe()]
    elif kind == "file":
        fds = [os.open(tmp_path, os.O_RDONLY)]
    else:
        import select

        epoll = select.epoll()
        fds = [os.dup(epoll.fileno())]
        epoll.close()
    found = before.left()
    for fd in fds:
        os.close(fd)
    assert [*found] == ["descriptor"]
    assert len(found["descriptor"]) == len(fds)
    assert before.left() == {}


def test_a_thread_is_found(take_inventory):
    before = take_inventory()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    found = before.left(grace=0.05)
    stop.set()
    assert [*found] == ["thread"]
    assert "forgotten" in found["thread"][0]
    assert before.left() == {}  # with its moment to end in
    thread.join()


@linux
def test_a_memfd_is_found_while_only_its_mapping_is_left(take_inventory):
    before = take_inventory()
    fd = os.memfd_create("gibbs-page")
    os.ftruncate(fd, 4096)
    assert [*before.left()] == ["descriptor"]
    page = mmap.mmap(fd, 4096)
    os.close(fd)
    found = before.left()
    page.close()
    assert "gibbs-page" in found["memfd"][0]
    assert before.left() == {}


@pytest.fixture
async def pair():
    """An async fixture that keeps the loop open until after the test: the accuser must come after it."""
    first, second = socket.socketpair()
    yield first, second
    first.close()
    second.close()


async def test_what_an_async_fixture_closes_is_not_accused(pair):
    await anyio.to_thread.run_sync(pair[0].send, b"x")
    assert pair[1].recv(1) == b"x"


@pytest.fixture(scope="module")
async def wide():
    with socket.socket() as sock:
        yield sock


async def test_what_a_wider_fixture_holds_is_not_accused(wide):
    assert wide.fileno() > 0


# ------------------------------------------------------------------------------------------------------ who blocks


def blocking_library(folder: Path, source: str, file: str = "somewhere.py") -> dict:
    path = folder / "gibbs" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    namespace: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace


async def test_library_code_that_blocks_the_loop_is_seen(tmp_path, watch_for_blocking):
    library = blocking_library(tmp_path, "import time\n\nasync def f():\n    time.sleep(0)\n")
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen:
        with pytest.raises(Exception, match=r"Blocking call to time\.sleep"):
            await library["f"]()
    assert len(seen) == 1
    assert "somewhere.py:4 in f" in seen[0]


async def test_a_blocking_call_is_seen_even_if_its_error_is_swallowed(tmp_path, watch_for_blocking):
    source = "import time\n\ndef f():\n    try:\n        time.sleep(0)\n    except BaseException:\n        pass\n"
    library = blocking_library(tmp_path, source)
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen:
        library["f"]()
    assert len(seen) == 1


async def test_a_read_of_a_blocking_pipe_is_seen(tmp_path, watch_for_blocking):
    library = blocking_library(tmp_path, "import os\n\nf = os.read\n\ndef g(fd):\n    return os.read(fd, 1)\n")
    receive, send = os.pipe()
    os.write(send, b"x")
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen, pytest.raises(Exception, match=r"os\.read"):
        library["g"](receive)
    os.set_blocking(receive, False)
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as unseen:
        library["g"](receive)
    os.close(receive)
    os.close(send)
    assert len(seen) == 1
    assert unseen == []


async def test_a_test_may_block_even_when_the_library_calls_it(tmp_path, watch_for_blocking):
    library = blocking_library(tmp_path, "def f(callback):\n    callback()\n")
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen:
        time.sleep(0)
        library["f"](lambda: time.sleep(0))
    assert seen == []


async def test_the_local_launcher_may_block_to_spawn(tmp_path, watch_for_blocking):
    source = "import subprocess, sys\n\ndef f():\n    return subprocess.Popen([sys.executable, '-S', '-c', ''])\n"
    library = blocking_library(tmp_path, source, "_launch/local.py")
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen:
        child = library["f"]()
    child.wait()
    assert seen == []


@pytest.mark.parametrize(
    ("file", "caller"),
    [("_parent/link.py", "subprocess.py"), ("_launch/local.py", "elsewhere.py"), ("_hub.py", "subprocess.py")],
)
async def test_nobody_else_may_spawn_nor_may_the_launcher_block_otherwise(tmp_path, watch_for_blocking, file, caller):
    # A stand-in for Popen: the true one, interrupted in reading whether exec worked, leaves a child that nobody knows.
    popen = "import time\n\nclass Popen:\n    def __init__(self):\n        time.sleep(0)\n"
    (tmp_path / caller).write_text(popen)
    namespace: dict = {}
    exec(compile(popen, str(tmp_path / caller), "exec"), namespace)
    library = blocking_library(tmp_path, "def f(popen):\n    popen()\n", file)
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen, pytest.raises(Exception, match="Blocking call"):
        library["f"](namespace["Popen"])
    assert len(seen) == 1


async def test_another_thread_may_block(tmp_path, watch_for_blocking):
    library = blocking_library(tmp_path, "import time\n\ndef f():\n    time.sleep(0)\n")
    with watch_for_blocking(str(tmp_path / "gibbs") + os.sep) as seen:
        await anyio.to_thread.run_sync(library["f"])
    assert seen == []


# --------------------------------------------------------------------------------------- the fixtures, as pytest runs them

GUILTY = """
    import asyncio, os, socket, subprocess, sys, threading
    import anyio
    import pytest

    SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    kept = []

    def test_child():
        kept.append(subprocess.Popen(SLEEPER).pid)

    def test_descriptor():
        os.pipe()

    def test_thread():
        threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()

    async def test_socket_in_a_loop():
        kept.extend(socket.socketpair())

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])  # Trio has no such task
    async def test_task():
        asyncio.get_running_loop().create_task(asyncio.sleep(60))

    @pytest.mark.leaves("descriptor", reason="to see the marker work")
    def test_excused():
        os.pipe()

    def test_innocent():
        pass

    async def test_innocent_in_a_loop():
        await anyio.sleep(0)
"""


@linux
def test_guilty_tests_fail_and_innocent_ones_pass(pytester):
    shutil.copy(CONFTEST, pytester.path / "conftest.py")
    pytester.makeini(
        "[pytest]\nanyio_mode = auto\nmarkers =\n    leaves: as in pyproject\nfilterwarnings =\n    ignore::ResourceWarning\n"
    )
    pytester.makepyfile(test_guilty=GUILTY)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--import-mode=importlib")
    text = result.stdout.str()
    loops = text.count("ERROR at teardown of test_socket_in_a_loop[")
    assert loops >= 1
    for name in ("test_child", "test_descriptor", "test_thread", "test_task"):
        assert text.count(f"ERROR at teardown of {name}") == 1, text
    for kind in ("process", "descriptor pipe:", "thread <Thread", "descriptor socket:", "task AsyncIOTaskInfo"):
        assert f"left behind: {kind}" in text
    assert "teardown of test_innocent" not in text
    assert "teardown of test_excused" not in text
