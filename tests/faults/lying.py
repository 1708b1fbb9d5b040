"""What a model does to its stream, its descriptors and the shared page: it closes them, floods them, and lies on them.

Knows the worker from inside: which descriptor is the stream, which request runs. As `actions`, it must never know the phase.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from gibbs._wire import payload
from gibbs._wire.frames import encode, encode_header
from gibbs._wire.messages import ANSWER, CALL, FAILURE, READY, SKIPPED, TOO_LARGE, UNFIT

# ------------------------------------------------------------------------------------------------ the worker from inside


def stream():
    """The descriptor of the stream: a worker's first socket."""
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                return fd
    raise LookupError("no socket is open")


def shared_file():
    """A descriptor of the shared page, which its mapping holds."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if "gibbs-page" in os.readlink(f"/proc/self/fd/{fd}"):
                return fd
    raise LookupError("no page is open")


last_link_id = 0  # of the request that armed a thread


def link_id():
    """The number of the request that runs in the main thread, or of the next one."""
    main = threading.main_thread()
    # When an argument is freed `answer` has returned already; between two requests `run` still has the last one's number.
    places = ("answer", "run") if main is threading.current_thread() else ("answer",)
    frame = sys._current_frames().get(main.ident)
    while frame is not None:
        if frame.f_code.co_name in places and "link_id" in frame.f_locals:
            return frame.f_locals["link_id"]
        frame = frame.f_back
    return last_link_id + 1


# ----------------------------------------------------------------------------------------------- descriptors, the stream


def closes_0_1_2(folder):
    for fd in (0, 1, 2):
        os.close(fd)


def closes_all_fds(folder):
    os.closerange(0, 4096)


def shuts_down_the_stream(folder):
    import socket

    with socket.socket(fileno=os.dup(stream())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def stops_sending(folder):
    import socket

    with socket.socket(fileno=os.dup(stream())) as ours:
        ours.shutdown(socket.SHUT_WR)


def replaces_the_stream(folder):
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, stream())
    os.close(null)


def makes_the_stream_nonblocking(folder):
    os.set_blocking(stream(), False)


def stderr_flood(folder):
    piece = b"x" * 99 + b"\n"
    for _ in range(2_000):
        os.write(2, piece * 100)


def prints(folder):
    print("to standard output")
    os.write(1, b"gB\x01\x12 and to descriptor 1, without an end")
    print("to standard error", file=sys.stderr)


def reads_stdin(folder):
    assert sys.stdin.read() == ""


# ------------------------------------------------------------------------------------------------------------------ lies


def _say(data):
    os.write(stream(), data)


def garbage_on_all_fds(folder):
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        if fd > 2:
            with suppress(OSError):
                os.write(fd, b"\xff" * 4096)


def forged_own_answer(folder):
    _say(encode(ANSWER, link_id(), payload.dumps("FORGED")))


def forged_id(folder):
    _say(encode(ANSWER, 4711, payload.dumps("FORGED")))


def forged_exabyte(folder):
    _say(encode_header(ANSWER, link_id(), 1 << 60))


def forged_ready(folder):
    _say(encode(READY, 0, payload.dumps({"methods": {}, "interruptible": True})))


def forged_unfit(folder):
    _say(encode(UNFIT, 0, payload.dumps(("model", b""))))


def forged_skipped(folder):
    _say(encode(SKIPPED, link_id()))


def forged_too_large(folder):
    _say(encode(TOO_LARGE, link_id(), (3).to_bytes(8, "little")))


def forged_failure(folder):
    _say(encode(FAILURE, link_id(), b"no failure"))


def forged_command(folder):
    _say(encode(CALL, link_id()))  # what only a hub says


def another_version(folder):
    _say(b"gB\x02" + encode(ANSWER, link_id())[3:])


def truncated_header(folder):
    _say(encode_header(ANSWER, link_id(), 7)[:12])


def truncated_body(folder):
    _say(encode(ANSWER, link_id(), bytes(10))[:12] + (1 << 20).to_bytes(8, "little") + bytes(10))


def truncated_body_then_dies(folder):
    truncated_body(folder)
    os._exit(5)


def forks_and_both_go_on(folder):
    os.fork()


# ------------------------------------------------------------------------------------------------------- the shared page


def shrinks_the_page(folder):
    with suppress(PermissionError):
        os.ftruncate(shared_file(), 0)
        raise AssertionError("it shrank")


def grows_the_page(folder):
    with suppress(PermissionError):
        os.ftruncate(shared_file(), 1 << 30)
        raise AssertionError("it grew")


def scribbles_on_the_page(folder):
    os.pwrite(shared_file(), b"\xff" * 16, 0)
