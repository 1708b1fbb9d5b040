"""Workers that are forks of a template: what they share with it and what not, and whatever may become of it."""

from __future__ import annotations

import importlib
import logging
import operator
import os
import resource
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import gibbs
from gibbs._launch.template import Template
from gibbs._wire.forking import hear
from gibbs.abc import LaunchRefused
from gibbs.testing import hang, sweep
from tests.end_to_end.callers import WATCHDOG, answer
from tests.end_to_end.models_that_fork import (
    device,
    die,
    facts,
    leave_a_subprocess_and_exit,
    speak_and_exit,
    use_numpy,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, pidfds and memfds as Linux has them"),
]
CALLS = gibbs.function(operator.call)  # `request(f, *args)` is f(*args) in a worker


@pytest.fixture
def preload(tmp_path, monkeypatch, anyio_backend):
    """`preload(source)`: a launcher whose template imports a module of that source, called `heavy`."""
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()

    def preload(source="", **options):
        head = f"import os, pathlib, time\nhere = pathlib.Path({str(tmp_path)!r})\n"
        (tmp_path / "heavy.py").write_text(head + "(here / f'template {os.getpid()}').touch()\n" + source)
        return gibbs.ForkLauncher(preload=["heavy"], **{"output": "discard"} | options)

    yield preload
    sys.modules.pop("heavy", None)


@pytest.fixture
def templates(tmp_path):
    """The pids of all templates that were there, as their module tells."""
    return lambda: [int(path.name.split()[1]) for path in sorted(tmp_path.glob("template *"), key=os.path.getmtime)]


@pytest.fixture(autouse=True)
def lose_patience(monkeypatch):
    """With a template that was stopped: before that it may take its time, on a machine that is busy."""

    def have_patience(seconds):
        monkeypatch.setattr("gibbs._launch.forked._FORK_PATIENCE", seconds)
        monkeypatch.setattr("gibbs._launch.forked._TOLD_PATIENCE", seconds)

    have_patience(WATCHDOG)
    return lambda: have_patience(0.2)


async def ended(hub):
    """The error of a request that ends its worker."""
    with pytest.raises(gibbs.WorkerCrashed) as caught:
        await hub.request(die)
    return caught.value


# ------------------------------------------------------------------------------------------------------------ as any other


async def test_workers_have_what_their_template_imported_and_nothing_of_one_another(
    preload, templates, monkeypatch, until
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("gibbs._launch.local.usable_cpus", lambda: 6)
    launcher = preload("import numpy\nnumpy.random.seed(1)\nimport random\nrandom.seed(1)", devices=["a", "b"])
    async with gibbs.open_hub(CALLS, workers=2, launcher=launcher) as hub:
        async with hub.lease() as lease:
            one, other = await lease.request(facts), await answer(hub, facts)
            assert {(await answer(each, device)) for each in (lease, hub)} == {"a", "b"}
        assert [one["parent"], other["parent"]] == templates() * 2
        assert one["imported"]
        assert one["threads"] == "3"
        assert one["group"]
        assert one["thread"]
        assert one["random"][0] != other["random"][0]
        assert one["random"][1] != other["random"][1]
        # Only the empty stdin is in common; what belongs to the other worker, or to the template, is not there.
        private = [
            {name for name in each["descriptors"] if "socket:" in name or "pipe:" in name} for each in (one, other)
        ]
        assert not private[0] & private[1]
        assert [sum("socket:" in name for name in names) for names in private] == [2, 2], "the stream and the inquiry"


@pytest.mark.in_turn
async def test_how_a_worker_ended_is_told_as_of_any_other(preload, heard):
    async with gibbs.open_hub(CALLS, workers=1, launcher=preload(output=heard)) as hub:
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(speak_and_exit, 3)
        assert (caught.value.exit_code, caught.value.stderr_tail) == (3, "my last words")
        assert (await ended(hub)).signal == "SIGKILL"
        assert await answer(hub, abs, -1) == 1
        async with hang(hub):
            with anyio.move_on_after(0.05) as scope:
                await hub.request(abs, -1)
            assert scope.cancelled_caught
    assert "my last words" in heard.lines


@pytest.mark.parametrize("how", ["serves", "is dead", "stands still"])
@pytest.mark.in_turn
async def test_what_a_worker_started_goes_with_it_whether_or_not_its_template(
    how, preload, heard, until, lose_patience, running
):
    async with gibbs.open_hub(CALLS, workers=1, launcher=preload(output=heard)) as hub:
        template = await hub.request(os.getppid)
        if how != "serves":
            os.kill(template, signal.SIGKILL if how == "is dead" else signal.SIGSTOP)
        if how == "stands still":
            lose_patience()
        with pytest.raises(gibbs.WorkerCrashed) as caught:
            await hub.request(leave_a_subprocess_and_exit)
        assert caught.value.exit_code == (1 if how == "serves" else None)
        assert not caught.value.may_still_run
        assert ("the template" in caught.value.probable_cause) == (how != "serves")
        await until(lambda: not running([int(heard.lines[-1])]))
        assert await answer(hub, os.getppid) == template or how != "serves"


# ---------------------------------------------------------------------------------------------------------- its template


@pytest.mark.in_turn
async def test_a_template_that_dies_costs_no_worker_and_the_next_start_makes_another(preload, templates, until, caplog):
    async with gibbs.open_hub(CALLS, workers=2, launcher=preload()) as hub:
        pids = hub.statistics().pids
        [first] = templates()
        os.kill(first, signal.SIGKILL)
        assert await answer(hub, os.getpid) in pids
        error = await ended(hub)
        await until(lambda: hub.statistics().seats["serving"] == 2)
        assert hub.statistics().restarts == 1
        _, second = templates()
        assert hub.statistics().pids[1 - error.seat] == pids[1 - error.seat]
        async with hub.lease() as lease:
            assert second in {await answer(hub, os.getppid), await answer(lease, os.getppid)}
    [record] = [one for one in caplog.records if "template of workers" in one.message]
    assert (record.levelno, f"pid {first}" in record.message) == (logging.WARNING, True)


@pytest.mark.in_turn
async def test_a_template_that_stands_still_keeps_nobody(preload, templates, until, lose_patience):
    async with gibbs.open_hub(CALLS, workers=1, launcher=preload()) as hub:
        os.kill(templates()[0], signal.SIGSTOP)
        lose_patience()
        error = await ended(hub)
        assert (error.signal, error.may_still_run) == (None, False)
        await until(lambda: hub.statistics().seats["serving"] == 1)
        assert await answer(hub, os.getppid) == templates()[-1]
        os.kill(templates()[-1], signal.SIGSTOP)
        start = time.monotonic()
    assert time.monotonic() - start < 20


@pytest.mark.in_turn
async def test_a_template_that_dies_while_it_forks_is_replaced_and_the_launch_succeeds(preload, templates, monkeypatch):
    order = Template.order

    def order_and_kill(template, *args):
        if len(templates()) == 1:
            os.kill(template.pid, signal.SIGSTOP)
        order(template, *args)
        if len(templates()) == 1:
            template.kill()

    monkeypatch.setattr(Template, "order", order_and_kill)
    async with gibbs.open_hub(CALLS, workers=2, launcher=preload()) as hub:
        assert await hub.request(os.getppid) == templates()[1]


@pytest.mark.in_turn
async def test_a_template_that_is_killed_while_it_imports_fails_the_opening_in_words(preload, templates, until):
    async with anyio.create_task_group() as tg:

        @tg.start_soon
        async def kill():
            await until(templates)
            os.kill(templates()[0], signal.SIGKILL)

        with pytest.raises(gibbs.WorkerStartFailed) as caught:
            async with gibbs.open_hub(CALLS, workers=2, launcher=preload("time.sleep(600)")):
                pytest.fail("it opened")
    assert "was ended by SIGKILL while 'heavy' was imported" in str(caught.value)


FAILING = {
    "raises": ("print('on my way')\nraise OSError('no licence')", ["importing 'heavy' raised OSError: no licence", "on my way"]),
    "is not there": ("import nowhere_at_all", ["ModuleNotFoundError: No module named 'nowhere_at_all'", "Traceback"]),
    "calls sys.exit": ("import sys\nsys.exit(3)", ["importing 'heavy' raised SystemExit: 3"]),
    "exits": ("print('farewell', flush=True)\nos._exit(3)", ["exited with status 3 while 'heavy' was imported", "farewell"]),
}  # fmt: skip


@pytest.mark.in_turn
@pytest.mark.parametrize(("source", "words"), FAILING.values(), ids=FAILING)
async def test_a_module_that_cannot_be_imported_fails_the_opening_with_its_own_words(source, words, preload):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(CALLS, workers=2, launcher=preload(source)):
            pytest.fail("it opened")
    assert caught.value.reason == "launch"
    assert not isinstance(caught.value.__cause__, LaunchRefused)  # it may pass, so an open hub would try again
    for each in words:
        assert each in str(caught.value)


CULPRITS = {
    "a thread": ("import threading\nthreading.Thread(target=time.sleep, args=(600,), name='loader', daemon=True).start()", "the thread 'loader', from importing 'heavy'"),
    "a thread of native code": ("import _thread\n_thread.start_new_thread(time.sleep, (600,))", "a thread of native code (python"),
    "cuda": ("import sys, types\nsys.modules['torch.cuda'] = types.SimpleNamespace(is_initialized=lambda: True)", "the GPU's state of torch.cuda, from importing 'heavy'"),
}  # fmt: skip


@pytest.mark.in_turn
@pytest.mark.parametrize(("source", "words"), CULPRITS.values(), ids=CULPRITS)
async def test_what_cannot_be_forked_is_refused_with_the_name_of_who_brought_it(source, words, preload):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(CALLS, workers=2, launcher=preload(source)):
            pytest.fail("it opened")
    assert isinstance(caught.value.__cause__, LaunchRefused)
    assert words in str(caught.value)
    assert "Leave that module to the workers" in str(caught.value)


@pytest.mark.in_turn
async def test_a_thread_that_has_ended_by_then_is_in_nobodys_way(preload):
    launcher = preload("import threading\nt = threading.Thread(target=time.sleep, args=(0.01,))\nt.start()\nt.join()")
    async with gibbs.open_hub(CALLS, workers=1, launcher=launcher) as hub:
        assert await hub.request(abs, -1) == 1


@pytest.mark.in_turn
async def test_a_thread_that_a_template_gets_later_ends_the_hub_when_it_is_to_fork_again(preload, tmp_path):
    source = """
import signal, threading
def start(*_):
    threading.Thread(target=time.sleep, args=(600,), name='late', daemon=True).start()
    (here / 'started').touch()
signal.signal(signal.SIGUSR1, start)
"""
    with pytest.raises(gibbs.WorkerStartFailed, match="the thread 'late'"), anyio.fail_after(20):
        async with gibbs.open_hub(CALLS, workers=1, launcher=preload(source)) as hub:
            os.kill(await hub.request(os.getppid), signal.SIGUSR1)
            while not (tmp_path / "started").exists():
                await anyio.sleep(0.002)
            await ended(hub)
            await anyio.sleep_forever()


@pytest.mark.in_turn
def test_how_a_worker_ended_is_told_in_a_program_that_ignores_sigchld(start_program):
    program = start_program("""
        from gibbs._launch import forked
        forked._TOLD_PATIENCE = 20  # seconds: the template may have to wait for its turn

        async def main():
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            async with gibbs.open_hub(gibbs.function(lambda x: os._exit(x)), workers=1, launcher=gibbs.ForkLauncher()) as hub:
                try:
                    await hub.request(3)
                except gibbs.WorkerCrashed as error:
                    say(error.exit_code)

        run(main)
    """)
    assert program.read() == 3
    assert program.end()[0] == ""


@pytest.mark.in_turn
def test_a_program_that_inherits_the_workers_of_a_dead_template_is_told_how_they_end_and_reaps_them(start_program):
    """As the first process of a container does."""
    program = start_program("""
        async def main():
            assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
            async with gibbs.open_hub(gibbs.function(lambda f, *args: f(*args)), workers=1, launcher=gibbs.ForkLauncher()) as hub:
                os.kill(await hub.request(os.getppid), signal.SIGKILL)
                [pid] = hub.statistics().pids
                while await hub.request(os.getppid) != os.getpid():
                    await anyio.sleep(0.002)
                try:
                    await hub.request(os._exit, 3)
                except gibbs.WorkerCrashed as error:
                    say(error.exit_code)
            say(os.path.exists(f"/proc/{pid}"))

        run(main)
    """)
    assert program.read() == 3
    assert program.read() is False


# -------------------------------------------------------------------------------------------------------- nothing is left


@pytest.mark.in_turn
@pytest.mark.timeout(120)
async def test_an_opening_that_is_cancelled_anywhere_leaves_neither_template_nor_worker(
    preload, templates, take_inventory
):
    before = take_inventory()

    async def open_and_ask():
        async with gibbs.open_hub(CALLS, workers=1, launcher=preload()) as hub:
            return await hub.request(abs, -1)

    async for step in sweep(open_and_ask):
        assert step.cancelled or step.value == 1
        assert not before.left(grace=0.5).keys() & {"process", "orphan", "descriptor"}
    assert step.complete


@pytest.mark.in_turn
@pytest.mark.parametrize("who", ["hub", "template"])
async def test_where_no_descriptor_is_left_the_launch_fails_and_nothing_is(
    who, preload, templates, monkeypatch, running
):
    order = Template.order
    told = []

    def order_too_much(template, threads, given):
        if who == "template":
            resource.prlimit(template.pid, resource.RLIMIT_NOFILE, (8, 8))
        else:
            monkeypatch.setattr("gibbs._launch.forked.forking.hear", without_descriptors)
        order(template, threads, given)

    def without_descriptors(sock):
        kind, body, descriptors = hear(sock)
        told.append(int.from_bytes(body, "little"))
        for fd in descriptors:
            os.close(fd)
        return kind, body, []

    monkeypatch.setattr(Template, "order", order_too_much)
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(CALLS, workers=1, launcher=preload()):
            pytest.fail("it opened")
    assert caught.value.reason == ("resources" if who == "hub" else "launch")
    assert not running([*templates(), *told])


@pytest.mark.in_turn
async def test_a_launch_that_waits_for_a_template_in_vain_ends_with_its_time(preload, templates, running):
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(CALLS, workers=2, launcher=preload("time.sleep(600)"), start_timeout=0.5):
            pytest.fail("it opened")
    assert caught.value.reason == "timeout"
    assert not running(templates())


PROGRAM = """
    from gibbs._launch import forked
    sys.path.insert(0, str(Path(__file__).parent))

    def hold():
        re.match("(a+)+$", "a" * 40 + "b")

    async def main():
        launcher = gibbs.ForkLauncher(preload=["held"])
        async with gibbs.open_hub(gibbs.function(lambda f: f()), workers=2, launcher=launcher) as hub, anyio.create_task_group() as tg:
            template = await hub.request(os.getppid)
            for _ in range(2):
                tg.start_soon(hub.request, hold)
            await anyio.sleep(0.05)
            say([template, *hub.statistics().pids])
            await anyio.sleep_forever()

    import re
    run(main)
"""


@pytest.mark.in_turn
@pytest.mark.parametrize("while_it", ["serves", "imports", "stands still"])
def test_no_template_outlives_a_program_that_is_killed_nor_its_workers(
    while_it, start_program, all_gone, tmp_path, wait_for, anyio_backend
):
    told = tmp_path / "told"
    imports = f"import os, pathlib, re\npathlib.Path({str(told)!r}).write_text(str(os.getpid()))\n"
    (tmp_path / "held.py").write_text(imports + ('re.match("(a+)+$", "a" * 40 + "b")' if while_it == "imports" else ""))
    program = start_program(PROGRAM)
    if while_it == "imports":
        wait_for(lambda: told.exists() and told.read_text())
        pids = [int(told.read_text())]
    else:
        pids = program.read()
    if while_it == "stands still":
        os.kill(pids[0], signal.SIGSTOP)
    os.kill(program.pid, signal.SIGKILL)
    all_gone(pids)


# ------------------------------------------------------------------------------------------------------------- what it saves


@pytest.mark.in_turn
async def test_a_forked_worker_shares_what_its_template_has_imported(preload):
    found = []
    for launcher in (gibbs.LocalLauncher(), preload("import numpy")):
        async with gibbs.open_hub(CALLS, workers=1, launcher=launcher) as hub:
            assert await hub.request(use_numpy) == 3
            lines = Path(f"/proc/{hub.statistics().pids[0]}/smaps_rollup").read_text().splitlines()
            found.append(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")))
    assert found[1] < found[0] / 2, f"private memory: {found} kB"


async def test_options_that_make_no_sense_are_refused():
    with pytest.raises(TypeError, match="preload must be a sequence of strings, not 'numpy'"):
        gibbs.ForkLauncher(preload="numpy")
    with pytest.raises(ValueError, match="preload"):
        gibbs.ForkLauncher(preload=[""])
    with pytest.raises(ValueError, match="threads"):
        gibbs.ForkLauncher(threads="many")
    await checkpoint()


async def test_where_the_kernel_cannot_do_it_opening_says_so(monkeypatch):
    monkeypatch.setattr("gibbs._launch.fork.has_pidfd", lambda: False)
    with pytest.raises(NotImplementedError, match=r"gibbs\.LocalLauncher"):
        async with gibbs.open_hub(CALLS, workers=1, launcher=gibbs.ForkLauncher()):
            pytest.fail("it opened")
