"""Which seats a key likes: the same key the same ones, as far as they are free, and keys spread over seats evenly.

Rendezvous hashing (Thaler and Ravishankar, 1998): each key gives each seat a number, and likes the highest best. A seat more, or one
that is away, moves only the keys that like it best. Knows numbers only.
"""

from __future__ import annotations

from hashlib import blake2b

_ALL = (1 << 64) - 1


def affinity_of(key: str | bytes | int) -> int:
    """What stands for the key, the same in every program."""
    if isinstance(key, bytes):
        text = b"b" + key
    else:
        text = b"i%x" % key if isinstance(key, int) else b"s" + str.encode(key, "utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def liking(affinity: int, index: int) -> int:
    """How much it likes this seat. The mixing is that of splitmix64 (Steele, Lea and Flood, 2014)."""
    x = (affinity + (index + 1) * 0x9E3779B97F4A7C15) & _ALL
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _ALL
    return x ^ (x >> 31)
