"""`gibbs.share`: arrays that are in memory once, whatever number of workers use them.

Knows how memory is filled and sealed. What a worker sees of it is `_wire.shared`'s. Promises that nothing can write into it once it is shared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._wire.shared import arrays_in, reference

if TYPE_CHECKING:
    from ._wire.shared import Layout

_ALIGNED = 64  # bytes; what vector instructions like


class SharedArrays:
    """Arrays in sealed memory. Made by `share`; given to `open_hub` as an argument of the factory.

    Attributes:
        nbytes: how much memory they take.
    """

    def __init__(self, fd: int, nbytes: int, layout: Layout) -> None:
        self.nbytes = nbytes
        self._fd = fd
        self._layout = layout

    def arrays(self) -> Any:
        """The arrays, read-only, as they were given; views of the same memory.

        Raises:
            ValueError: they were freed.
        """
        import mmap

        self._check()
        return arrays_in(mmap.mmap(self._fd, self.nbytes, prot=mmap.PROT_READ) if self.nbytes else b"", self._layout)

    def close(self) -> None:
        """Free the memory, as soon as no worker and no view has it. The hub that they were given to does it when it closes. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _check(self) -> None:
        if self._fd < 0:
            raise ValueError("these shared arrays were freed, with the hub that they were given to: share them anew")

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        self._check()
        return reference(self, self._fd, self.nbytes, self._layout)

    def __repr__(self) -> str:
        state = f"{self.nbytes} bytes" if self._fd >= 0 else "freed"
        return f"<gibbs.SharedArrays, {len(self._layout[0])} of them, {state}>"


def share(arrays: Any, /) -> SharedArrays:
    """Put numpy arrays into memory that all workers of a hub map, read-only, so that they are there once.

    Give the result to `open_hub` as an argument of the factory, which gets the arrays as they were given here: one, a list, or a dict. They are
    there once for all workers, restarted ones too, and are freed with the hub. Writing into them raises ValueError, in the model as here.
    For workers on this machine, on Linux.

    Args:
        arrays: a numpy array, or a list, a tuple or a mapping of names to some. They are copied once.

    Raises:
        TypeError: what is no numpy array, or holds Python objects.
        OSError: there is no memory for them.
        NotImplementedError: not on Linux.

    Example:
        ```python
        weights = gibbs.share({"w": w, "b": b})
        async with gibbs.open_hub(Model, weights, workers=4) as hub:  # Model(weights): weights["w"] is an array
            ...
        ```
    """
    import numpy

    how: list[Any] | bool | None
    if isinstance(arrays, Mapping):
        how, given = list(arrays), list(arrays.values())
    elif isinstance(arrays, list | tuple):
        how, given = True, list(arrays)
    else:
        how, given = None, [arrays]
    for one in given:
        if not isinstance(one, numpy.ndarray) or one.dtype.hasobject:
            raise TypeError(f"share() takes numpy arrays without Python objects in them, not {type(one).__name__}")
    places, size = [], 0
    for one in given:
        places.append((numpy.lib.format.dtype_to_descr(one.dtype), one.shape, size))
        size += -(-one.nbytes // _ALIGNED) * _ALIGNED
    return SharedArrays(_filled(given, [offset for _, _, offset in places], size), size, (places, how))


def _filled(arrays: list[Any], offsets: list[int], size: int) -> int:
    """The descriptor of memory that has them in it, and into which nothing can be written any more."""
    import fcntl
    import mmap

    import numpy

    if not hasattr(os, "memfd_create"):
        raise NotImplementedError("shared arrays need memfd_create, which Linux has")
    fd = os.memfd_create("gibbs-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if size:
            os.posix_fallocate(fd, 0, size)  # else a lack of memory would be a SIGBUS in the midst of a copy
            memory = mmap.mmap(fd, size)
            for one, offset in zip(arrays, offsets, strict=True):
                if one.nbytes:
                    place = numpy.frombuffer(memory, dtype=numpy.uint8, count=one.nbytes, offset=offset)
                    place.view(one.dtype).reshape(one.shape)[...] = one
                    del place
            memory.close()  # a writable mapping could not be sealed
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


for _public in (SharedArrays, share):
    _public.__module__ = "gibbs"
