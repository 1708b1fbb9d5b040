"""What the kernel lets this program do, found out by doing it: a filter (seccomp, an old container) may forbid what Python was built with.

Promises that only a refusal counts: whoever has no descriptor left is told so when a worker is started, and not here.
"""

from __future__ import annotations

import errno
import os

from .._wire.claims import create_claims

_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def has_pidfd() -> bool:
    return _can("pidfd_open", os.getpid())


def has_memfd() -> bool:
    return _can("memfd_create", "gibbs-is-there")


def has_claims() -> bool:
    """Not every kernel that has an eventfd lets it be read without waiting, either."""
    if not hasattr(os, "eventfd"):
        return False
    claims = create_claims()
    if claims is not None:
        claims.close()
    return claims is not None


def _can(call: str, argument: object) -> bool:
    try:
        fd = getattr(os, call)(argument)
    except AttributeError:
        return False
    except OSError as error:
        return error.errno not in _REFUSED
    os.close(fd)
    return True
