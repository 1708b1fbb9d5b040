"""Workers that dial back: who is let in, who is not, and what becomes of a connection that nobody ended."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import socket
import ssl
import struct
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import gibbs
from gibbs._launch import reception as receptions
from gibbs._launch.encryption import certified
from gibbs._launch.reception import open_reception
from gibbs._launch.sealed_socket import TellingSocket
from gibbs._wire import payload, seal
from gibbs._wire.frames import encode
from gibbs._wire.greeting import MOST, Invitation, OfWorker
from gibbs._wire.hello import Hello
from gibbs._wire.messages import READY, SETUP
from gibbs._wire.seal import Seal
from gibbs.abc import LaunchRefused
from gibbs.testing import check_launcher
from tests.end_to_end.dialling import CERTIFICATE, DialLauncher, context
from tests.end_to_end.models_afar import Afar

pytestmark = pytest.mark.slow
WATCHDOG = 20.0
LINUX = sys.platform == "linux"


@pytest.fixture(params=["encrypted", "by a pair", "in the clear"])
def encrypt(request, tmp_path, monkeypatch):
    """Each way that this Python has, for both ends."""
    if request.param == "by a pair":
        hub, certificate, _ = certified()
        (tmp_path / "certificate").write_text(certificate)
        monkeypatch.setenv(CERTIFICATE, str(tmp_path / "certificate"))
        return hub, context
    return request.param == "encrypted"


@pytest.fixture(params=[True, False], ids=["encrypted", "in the clear"])
def either(request):
    return request.param


# ------------------------------------------------------------------------------------------------------------- what works


@pytest.mark.timeout(120)
async def test_a_launcher_whose_workers_dial_back_keeps_the_contract(encrypt):
    await check_launcher(DialLauncher(encrypt=encrypt))


async def test_a_hub_serves_over_connections_that_its_workers_made(encrypt):
    async with gibbs.open_hub(Afar, workers=2, launcher=DialLauncher(encrypt=encrypt)) as hub:
        assert [await hub.request(n) for n in range(20)] == [*range(20)]
        assert await hub.method(Afar.pid).request() in hub.statistics().pids
        big = os.urandom(3_000_000)
        assert await hub.request(big) == big
        with pytest.raises(TypeError, match="unexpected keyword"):
            await hub.method(Afar.pid).request(nonsense=1)


async def test_many_large_requests_at_once_arrive_whole_both_ways(either):
    async with gibbs.open_hub(Afar, workers=1, launcher=DialLauncher(encrypt=either)) as hub:

        async def asks(number):
            value = bytes([number]) * (100_000 + 40_000 * number)
            assert await hub.request(value) == value

        async with anyio.create_task_group() as tg:
            for number in range(20):
                tg.start_soon(asks, number)


async def test_a_running_call_is_interrupted_and_its_worker_kept(either, tmp_path, until):
    launcher = DialLauncher(encrypt=either)
    async with gibbs.open_hub(Afar, workers=1, launcher=launcher, cancel_grace=WATCHDOG) as hub:
        pid = await hub.method(Afar.pid).request()
        for times in range(3):
            marker = tmp_path / f"begun {times}"
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.method(Afar.dies_once).request, str(marker))
                await until(marker.exists)
                tg.cancel_scope.cancel()
            assert await hub.method(Afar.pid).request() == pid
        assert hub.statistics().interrupted == 3


async def test_this_python_encrypts_by_a_key_if_it_can_and_else_by_a_certificate():
    async with open_reception("127.0.0.1", (0,), encrypt=True, keepalive=5) as reception:
        invitation = reception.expect().invitation
    if sys.version_info >= (3, 13):
        assert (invitation.sealed, invitation.certificate) == ("by key", "")
    else:
        assert invitation.sealed == "by certificate"
        assert invitation.certificate.startswith("-----BEGIN CERTIFICATE-----")


# ----------------------------------------------------------------------------------------------------------- the stranger


class Stranger:
    """Somebody who dials, and says what he likes, in a thread of his own; then hears what is answered until nothing more comes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG)

    def says(self, data):
        try:
            self.socket.sendall(data)
        except OSError:  # it was hung up on meanwhile
            pass

    def hears_until_the_end(self):
        heard = b""
        with self.socket:
            try:
                while data := self.socket.recv(1 << 16):
                    heard += data
            except ConnectionError:
                pass
        return heard


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


@contextmanager
def no_mark(tmp_path):
    yield Bomb(tmp_path / "unpickled")
    assert not (tmp_path / "unpickled").exists()


async def in_a_thread(function, *args):
    with anyio.fail_after(WATCHDOG):
        return await anyio.to_thread.run_sync(function, *args)


def forged(bomb, invitation):
    return OfWorker(invitation.identity, b"x" * 32, Hello.of_this_process(1)).first


def a_frame(bomb, invitation):
    return encode(READY, 0, pickle.dumps(bomb))


def a_hello_and_a_frame(bomb, invitation):
    return Hello.of_this_process(1).line() + encode(READY, 0, pickle.dumps(bomb))


def a_proof_of_nothing(bomb, invitation):
    hello = Hello.of_this_process(1)
    return OfWorker(invitation.identity, b"x" * 32, hello).first + b"gibbs-proof " + b"0" * 64 + b"\n" + hello.line()


def too_much(bomb, invitation):
    return b"gibbs-dial 1 " + b"x" * (MOST + 1)


def much_too_much(bomb, invitation):
    return b"x" * 10_000_000


def of_no_identity(bomb, invitation):
    return b"gibbs-dial 1 nobody 00\n"


@pytest.mark.parametrize(
    "what", [a_frame, a_hello_and_a_frame, a_proof_of_nothing, too_much, much_too_much, of_no_identity]
)
async def test_who_forges_a_hello_is_turned_away_before_anything_is_unpickled(what, either, tmp_path):
    with no_mark(tmp_path) as bomb:
        async with open_reception("127.0.0.1", (0,), encrypt=either, keepalive=5) as reception:
            guest = reception.expect()
            stranger = Stranger(reception.port)
            await in_a_thread(stranger.says, what(bomb, guest.invitation))
            heard = await in_a_thread(stranger.hears_until_the_end)
            assert guest.invitation.token not in heard
            with anyio.move_on_after(0.01) as scope:
                await guest.arrived()
            assert scope.cancelled_caught


def recorded(invitation, tap):
    """Dial as a worker does, through `tap`, which is told what is said."""
    half = OfWorker(invitation.identity, invitation.token, Hello.of_this_process(os.getpid()))
    with socket.create_connection((invitation.host, invitation.port), timeout=WATCHDOG) as connection:
        connection.sendall(half.first)
        tap.append(half.first)
        proof = half.feed(connection.recv(1 << 16))
        connection.sendall(proof)
        tap.append(proof)


async def test_a_hello_that_is_replayed_is_refused():
    """In the clear, where it can be recorded: while its worker is still expected, and when it has come."""
    tap = []
    async with open_reception("127.0.0.1", (0,), encrypt=False, keepalive=5) as reception:
        guest = reception.expect()
        await in_a_thread(recorded, guest.invitation, tap)
        with anyio.fail_after(WATCHDOG):
            assert (await guest.arrived()).hello.pid == os.getpid()
        for other in (guest, reception.expect()):
            words = tap[0].replace(guest.invitation.identity.encode(), other.invitation.identity.encode())
            stranger = Stranger(reception.port)
            await in_a_thread(stranger.says, words + tap[1])
            await in_a_thread(stranger.hears_until_the_end)
            if other is not guest:
                with anyio.move_on_after(0.01) as scope:
                    await other.arrived()
                assert scope.cancelled_caught
        guest.revoke()


async def test_who_says_nothing_is_turned_away_when_his_time_is_over(monkeypatch, either):
    monkeypatch.setattr(receptions, "PATIENCE", 0.1)
    async with open_reception("127.0.0.1", (0,), encrypt=either, keepalive=5) as reception:
        stranger = Stranger(reception.port)
        assert await in_a_thread(stranger.hears_until_the_end) == b""


async def test_strangers_in_any_number_do_not_keep_a_worker_out(monkeypatch, either):
    monkeypatch.setattr(receptions, "MOST_STRANGERS", 4)
    launcher = DialLauncher(encrypt=either)
    async with launcher.session() as session:
        strangers = [await in_a_thread(Stranger, session.reception.port) for _ in range(20)]
        with anyio.fail_after(WATCHDOG):
            process = await session.launch(None)
        assert process.origin.pid
        gone = [await in_a_thread(stranger.hears_until_the_end) for stranger in strangers[:16]]
        assert gone == [b""] * 16
        for stranger in strangers:
            stranger.socket.close()


async def test_who_comes_after_his_invitation_was_revoked_is_a_stranger(either):
    launcher = DialLauncher(encrypt=either)
    async with open_reception("127.0.0.1", (0,), encrypt=either, keepalive=5) as reception:
        guest = reception.expect()
        guest.revoke()
        process = await in_a_thread(dialling_in, launcher, guest.invitation)
        assert "the hub at 127.0.0.1" in process
        assert "hung up" in process or "cannot be reached" in process


def dialling_in(launcher, invitation):
    """What a worker says, at last, that could not become one."""
    import subprocess

    script = "import sys; from gibbs.worker import connect; connect(sys.stdin.readline())"
    done = subprocess.run(
        [sys.executable, "-c", script], input=invitation.text() + "\n", capture_output=True, text=True, timeout=WATCHDOG
    )
    assert done.returncode == 1
    return done.stderr


async def test_a_worker_that_does_not_fit_is_refused_in_words(monkeypatch):
    monkeypatch.setattr("gibbs._wire.hello.VERSION", "0.0")
    async with DialLauncher().session() as session:
        with anyio.fail_after(WATCHDOG), pytest.raises(LaunchRefused, match="and this program 0\\.0"):
            await session.launch(None)


# ----------------------------------------------------------------------------------------------------------- the impostor


def impostor(listener, speak):
    """Take one connection after the other, and say to each what `speak` makes of what came."""
    listener.settimeout(WATCHDOG)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(WATCHDOG)
            try:
                speak(connection)
            except OSError:
                pass


def says_setup(bomb):
    def speak(connection):
        connection.recv(1 << 16)
        connection.sendall(encode(SETUP, 0, payload.dumps(bomb)))

    return speak


def has_a_certificate_of_its_own(bomb):
    hub, _, _ = certified()

    def speak(connection):
        with hub.wrap_socket(connection, server_side=True) as sealed:
            sealed.recv(1 << 16)
            sealed.sendall(encode(SETUP, 0, payload.dumps(bomb)))

    return speak


@pytest.mark.parametrize(
    ("sealed", "speaks"),
    [("not at all", says_setup), ("as ever", says_setup), ("as ever", has_a_certificate_of_its_own)],
)
def test_a_worker_unpickles_nothing_of_who_is_not_its_hub(sealed, speaks, tmp_path):
    certificate = ""
    if sealed == "as ever":
        sealed = "by key" if seal.HAS_KEYS else "by certificate"
        certificate = "" if seal.HAS_KEYS else certified()[1]
    with no_mark(tmp_path) as bomb, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=impostor, args=(listener, speaks(bomb)))
        thread.start()
        invitation = Invitation("127.0.0.1", port, "w", b"t" * 32, sealed=sealed, certificate=certificate)
        said = dialling_in(None, invitation)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(WATCHDOG)
    assert "is not the hub" in said or "cannot be reached" in said or "CERTIFICATE_VERIFY_FAILED" in said


@pytest.mark.skipif(not seal.HAS_KEYS, reason="this Python has no keys for TLS")
def test_a_key_that_is_not_the_right_one_opens_nothing():
    hub = Seal(seal.context_of_keys(lambda _: b"right" * 8), server=True)
    worker = Seal(seal.context_of_key("w", b"wrong" * 8), server=False)
    worker.feed(b"")
    with pytest.raises(ssl.SSLError):
        for _ in range(5):
            hub.feed(worker.take())
            worker.feed(hub.take())
    assert not hub.done


# ---------------------------------------------------------------------------------------------------------- what ends it


def deafen(connection):
    """From now on the kernel drops what comes for this connection, as if it never came: acknowledgements too."""
    drop_all = struct.pack("HBBI", 0x06, 0, 0, 0)
    import ctypes

    code = ctypes.create_string_buffer(drop_all)
    program = struct.pack("HL" if struct.calcsize("P") == 4 else "HxxxxxxQ", 1, ctypes.addressof(code))
    connection.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


@pytest.mark.parametrize("first", ["read", "write"])
def test_a_connection_that_was_reset_never_looks_as_if_all_had_come_whoever_was_told_of_it_first(first):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = socket.create_connection(listener.getsockname())
        hub = TellingSocket(fileno=listener.accept()[0].detach())
    with hub:
        hub.send(b"what it does not read")
        worker.send(b"last words")
        worker.close()
        if first == "write":
            with pytest.raises(ConnectionError):
                while True:
                    hub.send(b"more")
        assert hub.recv(100) == b"last words"
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                hub.recv(100)


@pytest.mark.skipif(not LINUX, reason="there is no filter for a socket")
async def test_a_host_that_says_nothing_any_more_is_noticed_by_the_kernel():
    async def notices(encrypt, busy):
        async with DialLauncher(encrypt=encrypt, keepalive=1.0).session() as session:
            process = await session.launch(None)
            hub_end = process.arrival
            deafen(hub_end.connection)
            with anyio.fail_after(WATCHDOG), pytest.raises(anyio.BrokenResourceError):
                if busy:
                    await process.stream.send(b"x")
                await process.stream.receive()
            assert hub_end.connection.closed_there is False
            process.kill()

    async with anyio.create_task_group() as tg:
        for encrypt, busy in itertools.product((True, False), (False, True)):
            tg.start_soon(notices, encrypt, busy)


async def test_a_worker_is_gone_when_its_program_is_killed(start_program, all_gone, either):
    program = start_program(
        f"""
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.end_to_end.models_afar import Afar
        from tests.end_to_end.dialling import DialLauncher

        async def main():
            async with gibbs.open_hub(Afar, workers=2, launcher=DialLauncher(encrypt={either})) as hub:
                started = await hub.method(Afar.starts_a_process).request()
                if os.fork() == 0:
                    time.sleep(600)  # a copy of the program, which holds nothing of its
                    os._exit(0)
                say([*hub.statistics().pids, started])
                await hub.method(Afar.sleeps).request()

        run(main)
        """
    )
    pids = program.read()
    import psutil

    copies = [child.pid for child in psutil.Process(program.pid).children() if child.pid not in pids]
    os.kill(program.pid, signal.SIGKILL)
    try:
        all_gone(pids)
    finally:
        for pid in copies:
            os.kill(pid, signal.SIGKILL)


async def test_a_worker_takes_along_what_it_has_started_and_nobody_else(running, until, either):
    async with gibbs.open_hub(Afar, workers=1, launcher=DialLauncher(encrypt=either)) as hub:
        started = await hub.method(Afar.starts_a_process).request()
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method(Afar.exits).request(1)
        assert await hub.request(1) == 1
    await until(lambda: not running([started]))


# ------------------------------------------------------------------------------------------------------------ where it is


async def test_the_first_free_port_of_several_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with open_reception("127.0.0.1", (port, 0), encrypt=False, keepalive=5) as reception:
            assert reception.port not in (0, port)
        with pytest.raises(LaunchRefused, match=f"cannot dial in at 127.0.0.1 on port {port}"):
            async with open_reception("127.0.0.1", (port,), encrypt=False, keepalive=5):
                pytest.fail("entered")


async def test_the_port_is_closed_when_the_session_is_over():
    async with open_reception("127.0.0.1", (0,), encrypt=False, keepalive=5) as reception:
        port = reception.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG)


def test_whoever_needs_no_port_does_not_load_what_opens_one():
    import subprocess

    script = "import gibbs, sys, json; gibbs.open_hub, gibbs.LocalLauncher, gibbs.SSHLauncher; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert "gibbs._launch.local" in loaded
    assert not {*loaded} & {
        "gibbs._launch.reception",
        "gibbs._wire.greeting",
        "gibbs._wire.seal",
        "ray",
        "cryptography",
    }
