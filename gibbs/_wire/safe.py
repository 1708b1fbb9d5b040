"""Pickles of workers that are not trusted, read step by step: plain data, and instances of what the user allows by name.

Knows the user's table of names, and what each step of a pickle could do. Promises that no callable is called which is not a maker
of plain data or allowed; that nothing of the hub's program is changed, no class, no enum member, no module; that nothing
is imported on a worker's word; and that no data come out of it whose mere hash would end or stop the program (a tuple in a tuple, 300,000
deep, is a crash of CPython; one of 130 bytes that holds itself twice, sixty times over, a hash of years). It is a filter, not a sandbox:
what is allowed is called with any arguments, and memory and time are bounded as far as honest data go.

After "Restricting Globals" in the documentation of Python's pickle. Read by the pickle module's own reader in Python, since that in C
cannot be looked at: many small objects take some five times as long, an array is copied once more, text and bytes take no longer.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from enum import Enum
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

from . import payload, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Names: TypeAlias = "Mapping[tuple[str, str], Any]"

_DEEPEST = 100  # tuples in tuples
_MORE_THAN_BYTES = 1_000_000  # what tuples hold when all is counted that they share, beyond the length of the body
_LONGEST_NAME = 200

# What the picklers of protocol 5 write. The rest is older, or takes objects from elsewhere.
_STEPS = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINBYTES "
    "BINBYTES BINBYTES8 BYTEARRAY8 SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET MEMOIZE BINGET LONG_BINGET STACK_GLOBAL REDUCE NEWOBJ "
    "NEWOBJ_EX BUILD"
).split()

_DATETIME = ("date", "datetime", "time", "timedelta", "timezone")


class NotAllowed(pickle.UnpicklingError):
    """The body does what is not allowed."""


def names_of(allow: Iterable[object]) -> Names:
    """What the user allows, by module and name. Raises TypeError for what a pickle cannot speak of by name."""
    names: dict[tuple[str, str], Any] = {}
    for one in allow:
        module, name = (getattr(one, attribute, None) for attribute in ("__module__", "__qualname__"))
        if not callable(one) or not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(f"allow takes classes and functions, which a pickle speaks of by name, not {one!r}")
        names[module, name] = one
    return names


def loads(body: bytes | bytearray | memoryview, names: Names | None = None) -> Any:
    """The object again. Raises NotAllowed, or what pickle or an allowed class raises."""
    if len(body) and body[0] != payload.PLAIN:
        raise NotAllowed("the body brings code with it (it was pickled by value), which is never opened here")
    return _Reader(body, names or {}).load()


# In no stub, and as old as the module.
_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001


class _Reader(_Unpickler):  # type: ignore[misc]
    """Reads one body."""

    def __init__(self, body: bytes | bytearray | memoryview, names: Names) -> None:
        super().__init__(BytesIO(body))
        self._length = len(body)
        self._names = names
        self._allowed = {id(one) for one in names.values()}
        self._found: dict[int, Any] = {}  # what it may call, by id
        self._made: dict[int, Any] = {}  # instances of allowed classes that this very body made, by id
        self._tuples: dict[int, tuple[Any, int, int]] = {}  # by id: itself, how deep, how much

    # ---- what it may speak of

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (plain.__name__, "by_name"):
            return self._may_call(self._by_name)
        if module == plain.__name__ and name in plain.MAKERS:
            return self._may_call(_Maker(plain.MAKERS[name]))
        if module == "datetime" and name in _DATETIME:
            import datetime

            return self._may_call(getattr(datetime, name))
        if module == "builtins" and name in ("Ellipsis", "NotImplemented"):
            return Ellipsis if name == "Ellipsis" else NotImplemented
        return self._by_name(module, name)

    def _by_name(self, module: str, name: str) -> Any:
        if type(module) is not str or type(name) is not str or (module, name) not in self._names:
            told = f"{module}.{name}"[:_LONGEST_NAME] if type(module) is type(name) is str else "what is no name"
            raise NotAllowed(
                f"the body speaks of {told}, which is not allowed. If it is harmless with any arguments, "
                f"allow it: results=gibbs.Safe(allow=[{told.rpartition('.')[2]}])"
            )
        return self._may_call(self._names[module, name])

    def _may_call(self, thing: Any) -> Any:
        self._found[id(thing)] = thing
        return thing

    # ---- the steps that do something

    def load_reduce(self) -> None:
        function = self.stack[-2]
        if id(function) not in self._found:
            raise NotAllowed(f"the body calls {type(function).__name__!r}, which is not allowed")
        super().load_reduce()
        self._note(function)

    def load_newobj(self) -> None:
        self._make(self.stack[-2], super().load_newobj)

    def load_newobj_ex(self) -> None:
        self._make(self.stack[-3], super().load_newobj_ex)

    def _make(self, cls: Any, load: Callable[[], None]) -> None:
        if id(cls) not in self._allowed:
            raise NotAllowed("the body makes an object of what is not allowed")
        load()
        self._note(cls)

    def _note(self, cls: Any) -> None:
        """What was just made: its size if it is a tuple, and that it is this body's own to fill."""
        made = self.stack[-1]
        if isinstance(made, tuple):
            self._measure()
        # An enum's members, and classes, are the program's, whoever asks for them.
        if type(made) is cls and not isinstance(made, Enum | type) and id(cls) in self._allowed:
            self._made[id(made)] = made

    def load_build(self) -> None:
        made, state = self.stack[-2:]
        if id(made) not in self._made:
            raise NotAllowed(f"the body sets attributes of {type(made).__name__!r}, which is not allowed")
        if getattr(type(made), "__setstate__", None) is None:
            for part in state if type(state) is tuple else (state,):
                if part is not None and any(type(name) is not str or name.startswith("__") for name in part):
                    raise NotAllowed("the body sets attributes that are not for it to set")
        super().load_build()

    def load_append(self) -> None:
        self._may_fill(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        self._may_fill(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        self._may_fill(self.stack[-3], dict, OrderedDict)
        super().load_setitem()

    def load_setitems(self) -> None:
        self._may_fill(self.metastack[-1][-1], dict, OrderedDict)
        super().load_setitems()

    def load_additems(self) -> None:
        self._may_fill(self.metastack[-1][-1], set)
        super().load_additems()

    def _may_fill(self, target: Any, *kinds: type) -> None:
        """Raises NotAllowed if items are put into what is neither plain nor made here."""
        if type(target) not in kinds and id(target) not in self._made:
            raise NotAllowed(f"the body puts items into {type(target).__name__!r}, which is not allowed")

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._length:
            raise NotAllowed("the body asks for more bytes than it has")
        array = bytearray(size)
        self.readinto(array)
        self.append(array)

    def load_tuple(self) -> None:
        super().load_tuple()
        self._measure()

    def load_tuple1(self) -> None:
        super().load_tuple1()
        self._measure()

    def load_tuple2(self) -> None:
        super().load_tuple2()
        self._measure()

    def load_tuple3(self) -> None:
        super().load_tuple3()
        self._measure()

    def _measure(self) -> None:
        """A tuple was made: how deep it is, and how much it holds when all is counted that its parts share."""
        made = self.stack[-1]
        deep, much = 0, 1
        for part in tuple.__iter__(made):
            _, part_deep, part_much = self._tuples.get(id(part), (None, 0, 1))
            deep, much = max(deep, part_deep), much + part_much
        if deep >= _DEEPEST or much > _MORE_THAN_BYTES + self._length:
            raise NotAllowed("the body nests tuples too deeply, or holds one too often")
        self._tuples[id(made)] = made, deep + 1, much

    def refuse(self) -> None:
        raise NotAllowed("the body has a step that no worker's pickler takes")


_Reader.dispatch = dict.fromkeys(range(256), _Reader.refuse) | {
    code[0]: getattr(_Reader, _Unpickler.dispatch[code[0]].__name__)
    for code in (getattr(pickle, step) for step in _STEPS)
}


class _Maker:
    """One use of a maker: an object of its own, so that nothing that is done to it is done to all."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)
