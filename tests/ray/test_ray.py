"""Workers in a real Ray cluster: nodes that are killed, frozen and replaced."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import numpy
import psutil
import pytest

import gibbs
from gibbs.abc import LaunchRefused, WorkerSpec
from gibbs.contrib.ray import RayLauncher
from gibbs.testing import check_launcher
from tests.end_to_end.models_afar import Afar
from tests.ray.cluster import actors, alive

SPEC = WorkerSpec(name="ray", seat=0, incarnation=1, workers=1)
WATCHDOG = 60.0


def steady(**options):
    """Workers on the nodes that live as long as the cluster."""
    return RayLauncher(**{"num_cpus": 0, "resources": {"steady": 1}, **options})


class Referring:
    """A model that is given references, and gives some."""

    interruptible = True

    def total(self, reference):
        import ray

        assert isinstance(reference, ray.ObjectRef)
        return float(ray.get(reference).sum())

    def put(self, count):
        import ray

        return {"made": ray.put(numpy.arange(count, dtype=float))}

    def visible(self):
        time.sleep(0.2)
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def variable(self, name):
        return os.environ.get(name)

    def pid(self):
        return os.getpid()

    def exits(self):
        os._exit(1)


# ----------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "in the clear"])
async def test_a_launcher_keeps_the_contract_over_ray(two_nodes, encrypt):
    await check_launcher(steady(encrypt=encrypt), patience=60)


async def test_the_walk_through_runs_with_one_argument_more(two_nodes):
    class MyAwesomeModel:
        def __call__(self, x):
            return x * x

    async with gibbs.open_hub(MyAwesomeModel, workers=2, launcher=steady()) as hub:
        assert [await hub.request(n) for n in range(10)] == [n * n for n in range(10)]


async def test_a_cancelled_call_is_interrupted_there_and_its_worker_is_kept(two_nodes):
    async with gibbs.open_hub(Afar, workers=1, launcher=steady()) as hub:
        pid = await hub.method(Afar.pid).request()
        for _ in range(3):
            with anyio.move_on_after(0.05):
                await hub.method(Afar.sleeps).request()
            assert await hub.method(Afar.pid).request() == pid
        assert hub.statistics().interrupted == 3


async def test_nothing_is_left_in_the_cluster_when_the_hub_is_left(two_nodes, until):
    async with gibbs.open_hub(Afar, workers=2, launcher=steady()) as hub:
        pids = hub.statistics().pids
        assert len(actors()) == 2
    await until(lambda: not actors())
    await until(lambda: not any(map(psutil.pid_exists, pids)))


async def test_the_driver_is_the_programs_own(two_nodes, monkeypatch):
    import ray

    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray, name, lambda *_, **__: pytest.fail("called"))
    async with gibbs.open_hub(Afar, workers=1, launcher=steady()) as hub:
        assert await hub.request(1) == 1
    assert ray.is_initialized()


# --------------------------------------------------------------------------------------------------------------- deaths


async def test_a_worker_that_dies_on_a_node_that_lives_is_gone_for_certain(two_nodes):
    async with gibbs.open_hub(Afar, workers=1, launcher=steady()) as hub:
        for method, argument in ((Afar.exits, 3), (Afar.dies, signal.SIGKILL)):
            with pytest.raises(gibbs.WorkerCrashed) as caught:
                await hub.method(method).request(argument)
            assert not caught.value.may_still_run
            assert "its actor is dead, says Ray" in caught.value.probable_cause
        assert await hub.request(1) == 1


async def test_a_worker_takes_along_what_it_has_started_and_not_the_node(two_nodes, until):
    async with anyio.create_task_group() as tg:
        async with gibbs.open_hub(Afar, workers=1, launcher=steady(), close_timeout=0.1) as hub:
            started = await hub.method(Afar.starts_a_process).request()

            @tg.start_soon
            async def asks():
                with pytest.raises(gibbs.HubClosed):
                    await hub.method(Afar.sleeps).request()

            await until(lambda: hub.statistics().running == 1)
    await until(lambda: not psutil.pid_exists(started))
    assert all(map(alive, [node.address for node in two_nodes]))


async def test_a_worker_whose_interpreter_is_held_by_c_is_ended_by_ray(two_nodes, until):
    """Its own thread cannot run, so it does not hear that its stream has ended."""
    async with gibbs.open_hub(Afar, workers=1, launcher=steady(), cancel_grace=0.1) as hub:
        [pid] = hub.statistics().pids
        with anyio.move_on_after(0.3):
            await hub.method(Afar.holds_the_lock_of_the_interpreter).request()
        with anyio.fail_after(WATCHDOG):
            assert await hub.method(Afar.pid).request() != pid
        assert not psutil.pid_exists(pid)
        assert hub.statistics().killed == 1


async def test_an_actor_that_is_run_a_second_time_with_the_same_invitation_is_a_stranger(two_nodes):
    import ray

    from gibbs.contrib._ray_actor import GibbsWorker

    async with steady().session() as session:
        process = await session.launch(SPEC)
        again = ray.remote(GibbsWorker).options(num_cpus=0).remote()
        reference = again.serve.remote(process._guest.invitation.text(), None)
        with pytest.raises(ray.exceptions.RayTaskError, match=r"hung up|cannot be reached"), anyio.fail_after(WATCHDOG):
            await anyio.to_thread.run_sync(lambda: ray.get(reference, timeout=WATCHDOG))
        ray.kill(again)
        process.kill()


class Load:
    """Clients that ask on and on, and a ledger."""

    def __init__(self, hub):
        self.hub = hub
        self.submitted = self.answered = 0
        self.crashed = []
        self.stop = False

    async def client(self):
        while not self.stop:
            self.submitted += 1
            try:
                assert await self.hub.method(Ledger.work).request(self.submitted) is not None
                self.answered += 1
            except gibbs.WorkerCrashed as error:
                self.crashed.append(error)

    @property
    def lost(self):
        return self.submitted - self.answered - len(self.crashed)


class Ledger:
    interruptible = True

    def work(self, number):
        time.sleep(0.002)
        return number

    def pid(self):
        return os.getpid()

    def sleeps(self):
        time.sleep(600)


def worker_of(node, pids):
    """Which of these processes is the node's."""
    return next(process for process in node.tree() if process.pid in pids)


async def test_a_node_that_is_killed_under_load_costs_its_running_request_and_nothing_else(cluster, until):
    place = cluster.new_place()
    nodes = [await anyio.to_thread.run_sync(lambda: cluster.add(**place)) for _ in range(2)]
    launcher = RayLauncher(num_cpus=0, resources=place, keepalive=1)
    third = None
    try:
        async with gibbs.open_hub(Ledger, workers=2, launcher=launcher, start_timeout=60) as hub:
            pids = hub.statistics().pids
            load = Load(hub)
            async with anyio.create_task_group() as tg:
                for _ in range(20):
                    tg.start_soon(load.client)
                await until(lambda: load.answered > 200)
                await anyio.to_thread.run_sync(cluster.remove, nodes[0])
                await until(lambda: hub.statistics().seats["serving"] == 1)
                answered = load.answered
                await until(lambda: load.answered > answered + 100)
                third = await anyio.to_thread.run_sync(lambda: cluster.add(**place))
                await until(lambda: hub.statistics().seats["serving"] == 2)
                load.stop = True
            assert load.lost == 0
            assert 1 <= len(load.crashed) <= 2
            assert set(pids) & set(hub.statistics().pids)
            memory = await anyio.to_thread.run_sync(cluster.memory)
            assert memory < 2e9
            print(f"{memory / 1e6:.0f} MB", file=sys.stderr)
            print(
                f"submitted {load.submitted} = answered {load.answered} + crashed {len(load.crashed)}", file=sys.stderr
            )
    finally:
        for node in (*nodes, *filter(None, [third])):
            await anyio.to_thread.run_sync(cluster.remove, node)


def deafen(connection):
    """The kernel drops what comes for this connection: of a host that stands still it would not even come."""
    import ctypes
    import socket
    import struct

    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    connection.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))


async def test_a_node_that_is_frozen_is_noticed_by_tcp_and_its_worker_is_gone_when_it_wakes(cluster, until):
    """Its processes are stopped. The kernel of this machine would go on to speak for them, so that is not heard."""
    place = cluster.new_place()
    nodes = [await anyio.to_thread.run_sync(lambda: cluster.add(**place)) for _ in range(2)]
    launcher = RayLauncher(num_cpus=0, resources=place, keepalive=1)
    try:
        async with gibbs.open_hub(Ledger, workers=1, launcher=launcher, start_timeout=60) as hub:
            [pid] = hub.statistics().pids
            [node] = [node for node in nodes if pid in {one.pid for one in node.tree()}]
            process = hub._desk.crew.supervisors[0].worker.process
            load = Load(hub)
            async with anyio.create_task_group() as tg:
                for _ in range(20):
                    tg.start_soon(load.client)
                await until(lambda: load.answered > 100)
                deafen(process._arrival.connection)
                await anyio.to_thread.run_sync(node.freeze)
                start = anyio.current_time()
                await until(lambda: load.crashed)
                noticed = anyio.current_time() - start
                assert alive(node.address)  # for Ray, which takes a minute
                assert noticed < launcher.traits.silent_loss_within + 6
                await until(lambda: hub.statistics().seats["serving"] == 1)
                assert alive(node.address)  # still
                load.stop = True
            assert load.lost == 0
            assert [(error.may_have_run, error.may_still_run) for error in load.crashed] == [(True, True)]
            assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
            await anyio.to_thread.run_sync(node.wake)
            await until(lambda: not psutil.pid_exists(pid))
            assert await hub.method(Ledger.pid).request() != pid
            print(f"noticed after {noticed:.1f} s, lost 0 of {load.submitted}", file=sys.stderr)
    finally:
        for one in nodes:
            await anyio.to_thread.run_sync(cluster.remove, one)


async def test_no_actor_is_left_when_the_program_is_killed(cluster, two_nodes, tmp_path, until, anyio_backend):
    backend, options = anyio_backend
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import anyio, gibbs, ray
from gibbs.contrib.ray import RayLauncher
from tests.end_to_end.models_afar import Afar

async def main():
    launcher = RayLauncher(num_cpus=0, resources={{"steady": 1}})
    async with gibbs.open_hub(Afar, workers=2, launcher=launcher) as hub:
        told = Path({str(tmp_path / "pids")!r})  # on its stdout Ray speaks too
        told.with_suffix(".new").write_text(repr([*hub.statistics().pids]))
        told.with_suffix(".new").rename(told)
        await hub.method(Afar.sleeps).request()

ray.init(address={cluster.address!r}, _node_ip_address="127.0.0.2", log_to_driver=False)
anyio.run(main, backend={backend!r}, backend_options={options!r})
"""
    )
    process = await anyio.open_process([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=None)
    async with process:
        await until((tmp_path / "pids").exists)
        pids = eval((tmp_path / "pids").read_text())
        process.kill()
        await process.wait()
    await until(lambda: not any(map(psutil.pid_exists, pids)))
    await until(lambda: not actors())


# -------------------------------------------------------------------------------------------------------------- starting


async def test_a_place_that_there_is_not_is_waited_for_until_the_start_is_timed_out(two_nodes, until):
    launcher = RayLauncher(resources={"no such thing": 1})
    with pytest.raises(gibbs.WorkerStartFailed) as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=launcher, start_timeout=3):
            pytest.fail("entered")
    assert caught.value.reason == "timeout"
    await until(lambda: not actors())


async def test_a_program_without_a_driver_is_told_so(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(gibbs.WorkerStartFailed, match=re.escape("call ray.init()")) as caught:
        async with gibbs.open_hub(Afar, workers=1, launcher=RayLauncher()):
            pytest.fail("entered")
    assert type(caught.value.__cause__) is LaunchRefused


async def test_an_address_that_workers_cannot_reach_is_told(two_nodes):
    """They try where nobody listens."""
    async with steady(encrypt=False).session() as session:
        session.reception._port = 1
        with pytest.raises(gibbs.abc.LaunchFailed, match="cannot be reached"), anyio.fail_after(WATCHDOG):
            await session.launch(SPEC)


async def test_variables_and_gpus_are_those_of_each_worker(cluster, until):
    node = await anyio.to_thread.run_sync(lambda: cluster.add(gpus=2))
    try:
        launcher = RayLauncher(num_cpus=0, num_gpus=1, env={"GIBBS_TEST_AFAR": "it is set"})
        async with gibbs.open_hub(Referring, workers=2, launcher=launcher, start_timeout=100) as hub:
            visible = set()

            async def asks():
                visible.add(await hub.method(Referring.visible).request())

            async with anyio.create_task_group() as tg:  # one to each, since it takes a moment
                tg.start_soon(asks)
                tg.start_soon(asks)
            assert visible == {"0", "1"}
            assert await hub.method(Referring.variable).request("GIBBS_TEST_AFAR") == "it is set"
    finally:
        await anyio.to_thread.run_sync(cluster.remove, node)


# ------------------------------------------------------------------------------------------------------------ references


async def test_a_reference_as_an_argument_is_resolved_there(two_nodes):
    import ray

    reference = ray.put(numpy.ones(1000))
    async with gibbs.open_hub(Referring, workers=1, launcher=steady()) as hub:
        for _ in range(3):
            with anyio.fail_after(WATCHDOG):
                assert await hub.method(Referring.total).request(reference) == 1000


async def test_a_reference_as_a_result_is_resolved_here_as_long_as_its_worker_lives(two_nodes):
    import ray

    async with gibbs.open_hub(Referring, workers=1, launcher=steady()) as hub:
        made = (await hub.method(Referring.put).request(1000))["made"]
        values = await anyio.to_thread.run_sync(lambda: ray.get(made, timeout=WATCHDOG))
        assert values.sum() == 499500
        lost = (await hub.method(Referring.put).request(1_000_000))["made"]
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method(Referring.exits).request()
        with pytest.raises(ray.exceptions.ObjectLostError):
            await anyio.to_thread.run_sync(lambda: ray.get(lost, timeout=WATCHDOG))


async def test_references_are_pickled_so_only_while_a_hub_needs_it(two_nodes):
    import copyreg

    import ray

    async with steady().session():
        async with steady().session():
            pass
        assert ray.ObjectRef in copyreg.dispatch_table
    assert ray.ObjectRef not in copyreg.dispatch_table


# ------------------------------------------------------------------------------------------------------------- arguments
