"""Results of workers that are not trusted: plain data, and instances of what the user allows by name.

Knows the user's table of names. Promises that no class outside it is called, and that none of them, nor anything else of the
hub's program, is changed: a pickle can set the attributes of whatever it can name, classes included, and so make every later object say
what it likes. It is a filter, not a sandbox: what is allowed is called with any arguments, and no bound is put on memory.

After "Restricting Globals" in the documentation of Python's pickle. Bodies without an allowed class, which are most, are read by the C
reader of plain data; the others by the pickle module's own in Python, whose every step can be looked at.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

from . import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Names: TypeAlias = "Mapping[tuple[str, str], Any]"


def names_of(allow: Iterable[object]) -> Names:
    """What the user allows, by module and name. Raises TypeError for what a pickle cannot speak of by name."""
    names: dict[tuple[str, str], Any] = {}
    for one in allow:
        module, name = (getattr(one, attribute, None) for attribute in ("__module__", "__qualname__"))
        if not callable(one) or not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(f"allow takes classes and functions, which a pickle speaks of by name, not {one!r}")
        names[module, name] = one
    return names


def loads(body: bytes | bytearray | memoryview, names: Names) -> Any:
    """The object again. Raises UnpicklingError for what is not allowed, or what an allowed class raises."""
    try:
        return plain.loads(body)
    except plain.NotAllowed:
        if not names or not body or body[0] != 0x80:
            raise
    return _Careful(BytesIO(body), names).load()


# In no stub, and as old as the module.
_PythonUnpickler: Any = pickle._Unpickler  # noqa: SLF001


class _Careful(_PythonUnpickler):  # type: ignore[misc]
    dispatch = dict(_PythonUnpickler.dispatch)  # noqa: RUF012 - as its base has it

    def __init__(self, stream: BytesIO, names: Names) -> None:
        super().__init__(stream)
        self._names = names
        self._allowed = {one for one in names.values() if isinstance(one, type)}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._names:
            return self._names[module, name]
        if (module, name) == (plain.__name__, "by_name"):
            return self._by_name
        return plain.find(module, name)

    def _by_name(self, module: str, name: str) -> Any:
        return self._names[module, name] if (module, name) in self._names else plain.find(module, name)

    def load_build(self) -> None:
        """A state may be given to an instance of an allowed class, not to a class, nor to what stands in for one."""
        if type(self.stack[-2]) not in self._allowed:
            raise plain.NotAllowed(
                f"the body sets attributes of {type(self.stack[-2]).__name__!r}, which is not allowed"
            )
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build
