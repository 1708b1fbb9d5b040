"""A Ray cluster on this machine: each node has an address of the loopback's, and all its processes below one, so that it can be killed or frozen.

Not 127.0.0.1, which Ray rewrites to the machine's outward address, and then finds nobody there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

HEAD = "127.0.0.2"
WATCHDOG = 60.0
MEGABYTES = 80  # of each node's object store
QUIET = {
    "RAY_AUTH_MODE": "disabled",  # whoever runs it reaches its ports of the loopback anyway
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}


class Node:
    """`ray start --block` and all that it has started."""

    def __init__(self, log: Path, address: str, *arguments: str) -> None:
        self.address = address
        executable = Path(sys.executable).with_name("ray")
        # Without the mark of this run: what a node keeps ready for others is not a test's orphan.
        environ = {name: value for name, value in os.environ.items() if name != "GIBBS_TEST_RUN"}
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [
                    *(str(executable), "start", "--block", f"--node-ip-address={address}", "--disable-usage-stats"),
                    *(f"--object-store-memory={MEGABYTES << 20}", *arguments),
                ],
                env={**environ, **QUIET},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._frozen: list[psutil.Process] = []

    def tree(self) -> list[psutil.Process]:
        """Who belongs to it, the first one last."""
        first = psutil.Process(self.process.pid)
        return [*first.children(recursive=True), first]

    def freeze(self) -> None:
        """As when its host stands still."""
        for one in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
                self._frozen.append(one)

    def wake(self) -> None:
        frozen, self._frozen = self._frozen, []
        for one in reversed(frozen):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()

    def kill(self) -> None:
        """As when its host falls over. Returns when nothing of it is left."""
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                tree = self.tree()
                for one in tree:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                if len(tree) <= 1:
                    break
                psutil.wait_procs(tree[:-1], 1)
        self.process.wait(WATCHDOG)


class Cluster:
    """A head without a CPU, and nodes that come and go."""

    def __init__(self, port: int, directory: str) -> None:
        self.port = port
        self.nodes: list[Node] = []
        self._last = 2
        self._log = Path(directory, "nodes.log")
        self._head = Node(
            self._log,
            HEAD,
            "--head",
            f"--port={port}",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--temp-dir={directory}",
        )

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.port}"

    def add(self, *, cpus: int = 4, gpus: int = 0, **resources: float) -> Node:
        """A node more, at an address that none has had. One after the other: of two that start at once, one may never be ready."""
        self._last += 1
        node = Node(
            self._log,
            f"127.0.0.{self._last}",
            f"--address={self.address}",
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            f"--resources={json.dumps(resources)}",
        )
        self.nodes.append(node)
        self.wait(lambda: alive(node.address))
        return node

    def new_place(self) -> dict[str, float]:
        """A resource that no node has had, to ask for: Ray takes those that were killed to be alive for a while."""
        return {f"place{self._last}": 1}

    def remove(self, node: Node) -> None:
        node.wake()
        node.kill()
        if node in self.nodes:
            self.nodes.remove(node)

    def close(self) -> None:
        for node in [*self.nodes]:
            self.remove(node)
        self._head.kill()

    def wait(self, condition: Callable[[], Any]) -> None:
        until = time.monotonic() + WATCHDOG
        while not condition():
            assert time.monotonic() < until, f"Ray does not come up: {self._log.read_text()}"
            time.sleep(0.05)

    def memory(self) -> int:
        """Bytes that all of it, and this process, have for themselves."""
        every = [psutil.Process()]
        for node in [self._head, *self.nodes]:
            with contextlib.suppress(psutil.NoSuchProcess):
                every += node.tree()
        found = 0
        for one in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += one.memory_full_info().uss
        return found


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A head that answers, and this process its driver."""
    os.environ.update(QUIET)  # before Ray is imported, which reads it
    import ray

    with socket.create_server((HEAD, 0)) as probe:
        port = probe.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="gibbs-ray-", dir="/tmp")  # a short name: the paths of its sockets are limited
    before = signal.getsignal(signal.SIGTERM)
    cluster = Cluster(port, directory)
    try:
        cluster.wait(lambda: _answers(port))
        cluster.wait(lambda: _joined(cluster.address))
        yield cluster
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def alive(address: str) -> bool:
    """Whether Ray takes a node to be alive."""
    import ray

    return any(node["Alive"] and node["NodeManagerAddress"] == address for node in ray.nodes())


def actors() -> list[dict[str, Any]]:
    """Those that are not dead, as Ray knows them."""
    from ray._private.state import actors as every

    return [one for one in every().values() if one["State"] != "DEAD"]


def _joined(address: str) -> bool:
    import ray

    try:
        ray.init(address=address, _node_ip_address=HEAD, log_to_driver=False, configure_logging=False)
    except ConnectionError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HEAD, port), timeout=1).close()
    except OSError:
        return False
    return True
