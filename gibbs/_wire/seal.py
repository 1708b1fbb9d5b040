"""TLS as a transformation: bytes that came in, bytes that must go out. No socket, no waiting.

Knows `ssl` and nothing of who speaks. Must never be entered by two threads at once: a worker holds a lock around it, a hub has one loop.
Promises that what was opened has been authenticated by TLS; that a handshake needs no certificate of anybody's where a one-use key is the
proof; and that nothing is ever resumed, since tickets would be a second way in.
"""

from __future__ import annotations

import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HAS_KEYS = bool(getattr(ssl, "HAS_PSK", False))  # Python 3.13 and newer, with an OpenSSL that was built so
_RECORD = 1 << 14  # bytes that a record of TLS has at most


class Seal:
    """One end of a TLS connection. `done` when the handshake is, `over` when the other end has said that nothing follows."""

    __slots__ = ("_in", "_out", "_tls", "done", "over")

    def __init__(self, context: ssl.SSLContext, *, server: bool, host: str | None = None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=host)
        self.done: bool = False
        self.over: bool = False

    def feed(self, data: bytes) -> bytes:
        """Take what came, b"" to begin; return what it says, maybe nothing yet. Raises ssl.SSLError.

        It may ask for something to be sent: see `take`.
        """
        pieces: list[bytes] = []
        if data:
            self._in.write(data)
        try:
            if not self.done:
                self._tls.do_handshake()
                self.done = True
            while True:
                piece = self._tls.read(_RECORD)
                if not piece:
                    self.over = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.over = True
        return b"".join(pieces)

    def put(self, data: bytes | memoryview) -> None:
        """Seal this, behind what was put before. Raises ssl.SSLError."""
        view = memoryview(data)
        while len(view):
            view = view[self._tls.write(view) :]

    def take(self) -> bytes:
        """All that is to be sent, in order; b"" if it is nothing."""
        return self._out.read()

    def certificate(self) -> bytes:
        """The other end's, in DER; b"" if it has shown none."""
        return self._tls.getpeercert(binary_form=True) or b""


def context_of_keys(key_of: Callable[[str], bytes]) -> ssl.SSLContext:
    """A hub's, for which the proof is a key: `key_of(identity)`, b"" for one that is not known."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.set_psk_server_callback(lambda identity: key_of(identity or ""))  # type: ignore[attr-defined]  # 3.13
    return context


def context_of_key(identity: str, key: bytes) -> ssl.SSLContext:
    """A worker's, that shows and demands this key."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # With no authority loaded no certificate can be right: whoever shows one in the place of the key is refused. (Not so with CERT_NONE.)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_psk_client_callback(lambda _hint: (identity, key))  # type: ignore[attr-defined]  # 3.13
    return context


def context_with(certificate_file: str) -> ssl.SSLContext:
    """A hub's, with the certificate and its key in that file, which can be removed then."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file)
    return context


def context_for(certificate: str) -> ssl.SSLContext:
    """A worker's, that demands this very certificate, in PEM."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context
