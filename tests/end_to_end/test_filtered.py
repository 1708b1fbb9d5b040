"""Where a seccomp filter forbids what gibbs uses of Linux, as a hardened container does, a hub works all the same.

The filter is real: a few words of BPF, inherited by the workers.
"""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

NUMBERS = {
    "x86_64": {"pidfd_open": 434, "memfd_create": 319, "eventfd2": 290},
    "aarch64": {"pidfd_open": 434, "memfd_create": 279, "eventfd2": 19},
}.get(platform.machine(), {})

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not NUMBERS, reason="a filter for Linux on two kinds of machine"),
]

PROGRAM = """
import ctypes, os, struct, sys, time
import anyio

def forbid(number):
    # Load the number of the call; if it is this one, EPERM; else allow.
    words = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *word) for word in words))
    program = struct.pack("HxxxxxxP", len(words), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())

for number in map(int, sys.argv[3:]):
    forbid(number)

import gibbs
import gibbs.__main__

class Model:
    interruptible = True

    def __call__(self, x):
        return x + 1

    def wait(self, folder):
        open(folder + "/began", "w").close()
        time.sleep(600)

    def pid(self):
        return os.getpid()

async def main():
    folder = sys.argv[2]
    with anyio.fail_after(40):
        async with gibbs.open_hub(Model, workers=2) as hub:
            assert await hub.request(1) == 2
            before = hub.statistics().pids
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.method(Model.wait).request, folder)
                while not os.path.exists(folder + "/began"):
                    await anyio.sleep(0.002)
                tg.cancel_scope.cancel()
            assert await anyio.amap(hub.request, range(100)) == [*range(1, 101)]
            os.kill(before[0], 9)
            crashes = 0
            for x in range(100):
                try:
                    assert await hub.request(x) == x + 1
                except gibbs.WorkerCrashed:
                    crashes += 1
            assert crashes <= 1
    for what, there, _ in gibbs.__main__.offers():
        print(what, there)

backend, options = gibbs.__main__.LOOPS[sys.argv[1]]
anyio.run(main, backend=backend, backend_options=options)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize(
    ("forbidden", "said"),
    [
        (["pidfd_open"], "pidfd False\nmemfd True\nclaims True\nlifeline True\n"),
        (["memfd_create"], "pidfd True\nmemfd False\nclaims True\nlifeline True\n"),
        (["eventfd2"], "pidfd True\nmemfd True\nclaims False\nlifeline True\n"),
        (["pidfd_open", "memfd_create", "eventfd2"], "pidfd False\nmemfd False\nclaims False\nlifeline True\n"),
    ],
)
def test_a_hub_works_where_a_filter_forbids_it_something(loop, forbidden, said, tmp_path):
    if loop != "asyncio":
        pytest.importorskip(loop)
    if loop == "uvloop" and "eventfd2" in forbidden:
        pytest.skip("libuv itself needs an eventfd")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    numbers = [str(NUMBERS[call]) for call in forbidden]
    done = subprocess.run(
        [sys.executable, file, loop, tmp_path, *numbers], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == said
