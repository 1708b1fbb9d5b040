"""What hubs are doing, to be had at a socket in the file system: a line of JSON each second, for as long as one reads.

Promises that only the program's own user can connect, and that the file is gone when the block is left.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from anyio.abc import SocketListener

from ._snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    import gibbs

EVERY = 1.0  # seconds


@asynccontextmanager
async def open_socket(path: str | os.PathLike[str], *hubs: gibbs.Hub[Any]) -> AsyncIterator[None]:
    """In the block `python -m gibbs top <path>` shows what these hubs do: whoever connects is sent a line of JSON each second.

    Only the program's own user can connect. A socket that is there already, as a program that was killed leaves one, is replaced; the
    file is removed when the block is left. What is sent is `gibbs.top.snapshot`; nothing is read.

    Args:
        path: where, in a folder that is there.
        *hubs: that a `gibbs.history.History` observes.

    Raises:
        OSError: there can be no socket.
        Exception: what the block raised, as itself.

    Cancellation:
        The block's own is passed on.

    Example:
        ```python
        async with gibbs.open_hub(Model, workers=4, observers=[History()]) as hub, open_socket("app.sock", hub):
            ...
        ```
    """

    async def talk(stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.send(f"{json.dumps(snapshot(*hubs), separators=(',', ':'))}\n".encode("ascii"))
                    await anyio.sleep(EVERY)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):  # it reads no more
                pass

    error: Exception | None = None
    raw, inode = await to_thread.run_sync(_listening, path)
    try:
        async with await SocketListener.from_socket(raw) as listener, anyio.create_task_group() as tg:
            tg.start_soon(listener.serve, talk)
            try:
                yield
            except Exception as raised:  # noqa: BLE001 - raised again below: out of the task group it would come in a group
                error = raised
            tg.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_remove, path, inode)
    try:
        if error is not None:
            raise error
    finally:
        del error  # or it and this frame would hold each other


def _listening(path: str | os.PathLike[str]) -> tuple[socket.socket, int]:
    """And which file it is. In a thread: it asks the disk."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    raw = socket.socket(socket.AF_UNIX)
    try:
        raw.bind(os.fspath(path))
        os.chmod(path, 0o600)  # before it listens: until then nobody can connect
        raw.listen()
        raw.setblocking(False)
        return raw, os.stat(path).st_ino
    except BaseException:
        raw.close()
        raise


def _remove(path: str | os.PathLike[str], inode: int) -> None:
    """Unless it is another's, who came later."""
    with suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


open_socket.__module__ = "gibbs.top"
