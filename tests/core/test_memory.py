"""What the kernel says of memory, as files that look like its own."""

from __future__ import annotations

import os
import sys

import pytest

from gibbs import Ending
from gibbs._parent.memory import oom_kills, resident_bytes
from gibbs._records import probable_cause

VERSION_2 = ("0::/app\n", "sys/fs/cgroup/app/memory.events", "low 0\noom 3\noom_kill 2\n")
VERSION_1 = (
    "5:cpu,cpuacct:/app\n4:memory:/app/pod\n0::/\n",
    "sys/fs/cgroup/memory/app/pod/memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
)
AT_THE_TOP = ("0::/\n", "sys/fs/cgroup/memory.events", "oom_kill 2\n")


def kernel(root, groups, counter, text):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / counter).parent.mkdir(parents=True)
    (root / counter).write_text(text)
    return root


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1, AT_THE_TOP], ids=["version 2", "version 1", "at the top"])
def test_the_counter_of_this_programs_control_group_is_read(files, tmp_path):
    assert oom_kills(kernel(tmp_path, *files)) == 2


@pytest.mark.parametrize(
    "files",
    [
        ("0::/app\n", "sys/fs/cgroup/another/memory.events", "oom_kill 2\n"),
        ("0::/app\n", "sys/fs/cgroup/app/memory.events", "oom 2\n"),
        ("0::/app\n", "sys/fs/cgroup/app/memory.events", "oom_kill many\n"),
        ("nonsense\n", "sys/fs/cgroup/app/memory.events", "oom_kill 2\n"),
    ],
)
def test_where_nobody_counts_nothing_is_known(files, tmp_path):
    assert oom_kills(kernel(tmp_path, *files)) is None
    assert oom_kills(tmp_path / "nothing there") is None


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_memory_in_use_is_that_of_the_process():
    assert 1 << 20 < resident_bytes(os.getpid()) < 1 << 40
    assert resident_bytes(1 << 30) == 0.0


@pytest.mark.parametrize(
    ("out_of_memory", "words"),
    [
        (None, "often this is the kernel's out-of-memory killer"),
        (True, "the kernel's out-of-memory killer, which has ended a process"),
        (False, "not the kernel's out-of-memory killer"),
    ],
)
def test_a_kill_for_want_of_memory_is_named_by_the_kernels_counter(out_of_memory, words):
    assert words in probable_cause(Ending(how="signalled", code=9), out_of_memory=out_of_memory)
    assert "memory" not in probable_cause(Ending(how="signalled", code=11), out_of_memory=out_of_memory)
