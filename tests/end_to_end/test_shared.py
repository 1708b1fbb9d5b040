"""Arrays that are there once for all workers."""

from __future__ import annotations

import gc
import os
import pickle
import sys

import anyio
import numpy
import psutil
import pytest

import gibbs
from gibbs._wire.shared import open_shared
from tests.end_to_end.models_that_share import Shares

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of this kind is Linux's"),
]

RECORDS = numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")])


@pytest.mark.parametrize(
    "given",
    [
        numpy.arange(1000.0),
        [numpy.arange(7), numpy.ones((3, 4), dtype="f4")],
        (numpy.array(3), numpy.empty((0, 5))),
        {"weights": numpy.arange(12).reshape(3, 4)[:, ::2], "bias": numpy.array([True, False])},
        RECORDS,
        {},
    ],
    ids=["one", "a list", "odd ones", "by name", "records", "none"],
)
async def test_a_model_gets_them_as_they_were_given(given):
    async with gibbs.open_hub(Shares, gibbs.share(given), workers=1) as hub:
        content = await hub.method(Shares.content).request()
    expected = list(given) if isinstance(given, tuple) else given
    numpy.testing.assert_equal(content, expected)
    assert type(content) is type(expected)


async def test_four_workers_of_a_large_model_take_the_memory_of_one():
    if psutil.virtual_memory().available < 3 << 30:
        pytest.skip("there is not enough memory here")
    size = 500_000_000
    weights = gibbs.share(numpy.ones(size, dtype=numpy.uint8))
    async with gibbs.open_hub(Shares, weights, workers=4) as hub:
        taken = {}
        while len(taken) < 4:
            async with anyio.create_task_group() as tg:
                for pid in hub.statistics().pids:
                    tg.start_soon(measure, hub, taken, pid)
        rollup = {pid: psutil.Process(pid).memory_full_info().pss for pid in hub.statistics().pids}
    assert sum(rollup.values()) < 1.2 * size


async def measure(hub, taken, pid):
    taken[pid] = await hub.method(Shares.touch).request()


async def test_nothing_can_be_written_into_them_here_or_there():
    numbers = numpy.arange(100.0)
    shared = gibbs.share(numbers)
    numbers[:] = 0  # theirs is a copy
    async with gibbs.open_hub(Shares, shared, workers=1) as hub:
        with pytest.raises(ValueError, match="read-only"):
            await hub.method(Shares.write).request()
        with pytest.raises(ValueError, match="WRITEABLE"):
            await hub.method(Shares.unlock).request()
        here = shared.arrays()
        with pytest.raises(ValueError, match="read-only"):
            here[0] = 1
        assert (await hub.method(Shares.total).request())[0] == here.sum() == 4950
        del here
        gc.collect()


async def test_a_worker_that_is_started_in_the_place_of_another_has_them_too():
    async with gibbs.open_hub(Shares, gibbs.share(numpy.ones(10)), workers=1, spares=1) as hub:
        for _ in range(3):
            with pytest.raises(gibbs.WorkerCrashed):
                await hub.method(Shares.dies).request()
            assert (await hub.method(Shares.total).request())[0] == 10


async def test_they_are_freed_with_the_hub_and_cannot_be_given_to_another():
    shared = gibbs.share([numpy.ones(10)])
    async with gibbs.open_hub(Shares, shared, workers=1):
        kept = shared.arrays()
    assert "freed" in repr(shared)
    with pytest.raises(ValueError, match="share them anew"):
        async with gibbs.open_hub(Shares, shared, workers=1):
            pytest.fail("entered")
    with pytest.raises(ValueError, match="share them anew"):
        shared.arrays()
    assert kept[0].sum() == 10, "a view lives as long as somebody has it"
    del kept
    gc.collect()


async def test_a_hub_that_does_not_open_frees_them_too():
    shared = gibbs.share(numpy.ones(10))
    with pytest.raises(gibbs.WorkerStartFailed):
        async with gibbs.open_hub(Shares, shared, "one too many", workers=1):
            pytest.fail("entered")
    assert "freed" in repr(shared)


async def test_those_of_the_model_before_are_freed_by_a_reload_and_kept_by_one_that_fails():
    first, second = gibbs.share(numpy.ones(10)), gibbs.share(numpy.full(10, 2.0))
    async with gibbs.open_hub(Shares, first, workers=1) as hub:
        with pytest.raises(gibbs.ReloadFailed):
            await hub.reload(Shares, second, "one too many")
        assert ["freed" in repr(one) for one in (first, second)] == [False, True]
        third = gibbs.share(numpy.full(10, 3.0))
        await hub.reload(Shares, third)
        assert (await hub.method(Shares.total).request())[0] == 30
        assert ["freed" in repr(one) for one in (first, third)] == [True, False]
        await hub.reload(Shares, third)
        assert (await hub.method(Shares.total).request())[0] == 30
    assert "freed" in repr(third)


async def test_they_do_not_travel_otherwise():
    shared = gibbs.share(numpy.ones(10))
    with pytest.raises(TypeError, match=r"give them to open_hub\(\), or send the arrays themselves"):
        pickle.dumps(shared)
    async with gibbs.open_hub(gibbs.function(id), workers=1) as hub:
        with pytest.raises(TypeError, match="and nowhere else"):
            await hub.request(shared)
    shared.close()
    shared.close()


@pytest.mark.parametrize("given", [[1, 2], "text", numpy.array([object()]), {"a": [1.0]}, 3])
def test_what_is_no_array_of_plain_data_is_refused(given):
    with pytest.raises(TypeError, match="takes numpy arrays without Python objects"):
        gibbs.share(given)


def test_a_reference_to_what_is_not_there_is_refused_in_words(tmp_path):
    file = tmp_path / "another file"
    file.write_bytes(b"x" * 100)
    fd = os.open(file, os.O_RDONLY)
    try:
        for reference in ((os.getpid(), fd, 1), (os.getpid(), 1 << 20, 1), (1 << 30, 3, 1)):
            with pytest.raises(RuntimeError, match="cannot be reached from here"):
                open_shared(*reference, 8, ([("<f8", (1,), 0)], None))
    finally:
        os.close(fd)
