"""How a reception encrypts connections: by a key that is used once, by a certificate of its own, by what its user has, or not at all.

Knows `ssl` and, before Python 3.13, `cryptography`, the only package that makes a certificate, which it imports when it is needed. Must never
know who dials. Promises that a worker which is told the invitation can make out whether it has reached this very reception.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import anyio

from .._wire import seal
from .._wire.seal import Seal
from ..abc import LaunchRefused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Encrypt: TypeAlias = bool | tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]

_CLOCKS = timedelta(days=1)  # by which those of two machines may differ
_VALID = timedelta(days=3650)  # a hub may run for long, and its certificate dies with it


class Encryption:
    """How connections are encrypted: one of `greeting.SEALED`, and what that needs."""

    def __init__(
        self, sealed: str, context: ssl.SSLContext | None = None, certificate: str = "", digested: bytes = b""
    ) -> None:
        self.sealed = sealed
        self.certificate = certificate
        self.bound_to = digested  # what the proof of a greeting must name
        self._context = context

    @classmethod
    async def find(cls, encrypt: Encrypt) -> Encryption:
        """By a key that is used once where this Python can, else by a certificate that is known beforehand. Raises LaunchRefused."""
        if isinstance(encrypt, tuple):
            return cls("by yours", encrypt[0])
        if not encrypt:
            return cls("not at all")
        if seal.HAS_KEYS:
            return cls("by key")
        try:
            return cls("by certificate", *await anyio.to_thread.run_sync(certified))
        except ImportError as error:
            raise LaunchRefused(
                "before Python 3.13 an encrypted connection needs the package cryptography, which is in gibbs[ray]: "
                "install it, give encrypt= a pair of your own, or encrypt=False in a network where nobody listens in"
            ) from error

    def tell(self, key_of: Callable[[str], bytes]) -> None:
        """Whose keys are known."""
        if self.sealed == "by key":
            self._context = seal.context_of_keys(key_of)

    def seal(self) -> Seal | None:
        """For one connection."""
        return None if self._context is None else Seal(self._context, server=True)


def certified() -> tuple[ssl.SSLContext, str, bytes]:
    """A hub's context with a certificate of its own, which is given in PEM and in DER. Blocks for some milliseconds. Raises ImportError."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gibbs")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # `ssl` reads from files only: this one is ours alone, and gone before anybody is told of it.
    fd, path = tempfile.mkstemp(prefix="gibbs-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(pem + private)
        context = seal.context_with(path)
    finally:
        os.unlink(path)
    return context, pem.decode(), signed.public_bytes(Encoding.DER)
