"""What a worker that dials its hub and the hub say to each other first: who they are, and that both know the same secret.

Knows lines of text and a hash. Must never know what carries them, nor unpickle anything. Promises that a token is proven by both ends and
told by none; that a proof is good for these two nonces, this identity and this certificate, so that it cannot be replayed or passed on;
and that whoever says more than such lines take is refused at once.

    worker: gibbs-dial <version> <identity> <nonce>
    hub:    gibbs-hub <nonce> <proof>
    worker: gibbs-proof <proof>, and the line of `hello`, which the proof covers

"""

from __future__ import annotations

import hmac
import json
import os

from .hello import HelloReader, NoHello

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .hello import Hello

VERSION = "1"  # of these lines
TOKEN_SIZE = 32
MOST = 4096  # bytes that either may say
_NONCE_SIZE = 32
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "host": str,
    "port": int,
    "identity": str,
    "token": str,
    "sealed": str,
    "certificate": str,
    "keepalive": (int, float),
}
SEALED = ("by key", "by certificate", "by yours", "not at all")


class NotAuthentic(Exception):
    """The other end is not who it should be, or says what makes no sense. In words."""


class Invitation:
    """What a worker must be told to reach its hub: where that is, and a secret that is good for one greeting.

    `sealed` is one of SEALED: how the connection is encrypted; `certificate` is the hub's, in PEM, where that is the proof.
    """

    __slots__ = ("certificate", "host", "identity", "keepalive", "port", "sealed", "token")

    def __init__(
        self,
        host: str,
        port: int,
        identity: str,
        token: bytes,
        *,
        sealed: str,
        certificate: str = "",
        keepalive: float = 5.0,
    ) -> None:
        self.host: str = host
        self.port: int = port
        self.identity: str = identity
        self.token: bytes = token
        self.sealed: str = sealed
        self.certificate: str = certificate
        self.keepalive: float = keepalive

    def text(self) -> str:
        """As it travels, by a way that keeps secrets. One line."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return json.dumps({**fields, "token": self.token.hex()})

    @classmethod
    def read(cls, text: str) -> Invitation:
        """What `text()` wrote. Raises ValueError, and nothing else, which does not quote the secret."""
        try:
            fields: Any = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or fields.keys() != _FIELDS.keys():
            raise ValueError(f"an invitation must tell {', '.join(_FIELDS)}, and nothing else")
        for name, kind in _FIELDS.items():
            if isinstance(fields[name], bool) or not isinstance(fields[name], kind):
                raise ValueError(f"the {name} of an invitation makes no sense")
        try:
            token = bytes.fromhex(fields.pop("token"))
        except ValueError:
            token = b""
        if len(token) != TOKEN_SIZE or fields["sealed"] not in SEALED or not _is_word(fields["identity"]):
            raise ValueError("an invitation must bring a token, an identity, and how the connection is encrypted")
        if not 0 < fields["port"] < 1 << 16 or not 0 < fields["keepalive"] < 1e6:
            raise ValueError("the port or the keepalive of an invitation makes no sense")
        return cls(fields.pop("host"), fields.pop("port"), fields.pop("identity"), token, **fields)


class _Lines:
    """What came, line by line, and not too much of it."""

    __slots__ = ("_came", "_count")

    def __init__(self) -> None:
        self._came = b""
        self._count = 0

    def feed(self, data: bytes) -> None:
        self._count += len(data)
        if self._count > MOST:
            raise NotAuthentic(f"it said more than {MOST} bytes before it was known")
        self._came += data

    def line(self, *begins: str, words: int) -> list[str] | None:
        """The words of the next line behind those that it must begin with; None: it is not whole yet. Raises NotAuthentic."""
        line, end, rest = self._came.partition(b"\n")
        if not end:
            return None
        self._came = rest
        told = line.decode("ascii", errors="replace").split(" ")
        if tuple(told[: len(begins)]) != begins or len(told) != len(begins) + words or not all(map(_is_word, told)):
            raise NotAuthentic(f"it said {line[:40]!r} where {' '.join(begins)!r} must be said")
        return told[len(begins) :]

    def rest(self) -> bytes:
        rest, self._came = self._came, b""
        return rest


class OfWorker:
    """The worker's half. `first` is what it begins with; `done` when the hub has proven itself, and has what `feed` returned last."""

    __slots__ = ("_bound_to", "_hello", "_identity", "_lines", "_nonce", "_token", "done", "first")

    def __init__(self, identity: str, token: bytes, hello: Hello, *, bound_to: bytes = b"") -> None:
        self._identity = identity
        self._token = token
        self._hello = hello.line()
        self._bound_to = bound_to
        self._nonce = _nonce()
        self._lines = _Lines()
        self.first = f"gibbs-dial {VERSION} {identity} {self._nonce}\n".encode()
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what is to be said. Raises NotAuthentic."""
        self._lines.feed(data)
        told = self._lines.line("gibbs-hub", words=2)
        if told is None:
            return b""
        nonce, proof = told
        if self._lines.rest():
            raise NotAuthentic("it said more than a hub does")
        if not _is_proof(proof, self._token, "hub", self._identity, self._nonce, nonce, self._bound_to):
            raise NotAuthentic("it does not know the token of this invitation")
        self.done = True
        ours = _proof(self._token, "worker", self._identity, self._nonce, nonce, self._bound_to, self._hello)
        return f"gibbs-proof {ours}\n".encode() + self._hello


class OfHub:
    """The hub's half. `hello` is what the worker said of itself, once it has proven that it was invited.

    `token_of(identity)` is asked for the token, None for an identity that is not invited or not any more; `admit(identity)` when the token is
    proven, and says whether that is still so: it must do so once.
    """

    __slots__ = (
        "_admit",
        "_bound_to",
        "_hello",
        "_lines",
        "_nonce",
        "_proof",
        "_theirs",
        "_token",
        "_token_of",
        "hello",
        "identity",
    )

    def __init__(
        self, token_of: Callable[[str], bytes | None], admit: Callable[[str], bool], *, bound_to: bytes = b""
    ) -> None:
        self._token_of = token_of
        self._admit = admit
        self._bound_to = bound_to
        self._lines = _Lines()
        self._nonce = _nonce()
        self._theirs = ""
        self._token = b""
        self._proof: str | None = None
        self._hello = b""
        self.identity: str | None = None
        self.hello: Hello | None = None

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what is to be said. Raises NotAuthentic."""
        self._lines.feed(data)
        answer = b""
        if self.identity is None:
            told = self._lines.line("gibbs-dial", VERSION, words=2)
            if told is None:
                return b""
            answer = self._meet(*told)
        if self._proof is None:
            told = self._lines.line("gibbs-proof", words=1)
            if told is None:
                return answer
            [self._proof] = told
        self._hello += self._lines.rest()
        self._believe()
        return answer

    def _meet(self, identity: str, nonce: str) -> bytes:
        token = self._token_of(identity)
        if token is None:
            raise NotAuthentic("it is not invited, or not any more")
        self.identity = identity
        self._token = token
        self._theirs = nonce
        return (
            f"gibbs-hub {self._nonce} {_proof(token, 'hub', identity, nonce, self._nonce, self._bound_to)}\n".encode()
        )

    def _believe(self) -> None:
        """Read the hello when it is whole, and let it count if it is covered by the proof."""
        assert self.identity is not None
        assert self._proof is not None
        if self._hello.count(b"\n") < 2:  # it begins with the end of a line
            return
        known = (self._token, "worker", self.identity, self._theirs, self._nonce, self._bound_to, self._hello)
        if not _is_proof(self._proof, *known):
            raise NotAuthentic("it does not know the token of its invitation")
        if not self._admit(self.identity):
            raise NotAuthentic("its invitation was used, or is not good any more")
        try:
            self.hello = HelloReader().feed(self._hello)
        except NoHello as error:
            raise NotAuthentic(str(error)) from error
        if self.hello is None:
            raise NotAuthentic("it did not say who it is")


def _nonce() -> str:
    return os.urandom(_NONCE_SIZE).hex()


def _proof(
    token: bytes, role: str, identity: str, of_worker: str, of_hub: str, bound_to: bytes, hello: bytes = b""
) -> str:
    """Which only one who knows the token can make. Words have no blanks, so no two sets of them give the same text."""
    words = " ".join(("gibbs", VERSION, role, identity, of_worker, of_hub, bound_to.hex()))
    return hmac.digest(token, words.encode() + b"\n" + hello, "sha256").hex()


def _is_proof(proof: str, *known: Any) -> bool:
    return hmac.compare_digest(proof.encode(), _proof(*known).encode())


def _is_word(word: str) -> bool:
    return 0 < len(word) <= 200 and word.isascii() and word.isprintable() and " " not in word
