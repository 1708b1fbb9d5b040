"""How a factory travels: where the parent finds its modules, then the factory itself.

Knows `sys.path`, and the modules which the parent has although no finder would find them under their name (pytest's
`--import-mode=importlib` makes such). Must never know what the factory builds. Promises: `__main__` is not in it, for what
lives there travels by value; the writer gets the pickler's own error; in the worker the two steps are apart, so that an
error of the second is the user's import, and nothing else.
"""

from __future__ import annotations

import os
import sys

from . import payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    # A module's file, or None for a package without one; and where its submodules are looked for.
    Place = tuple[str | None, list[str]]

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_LIBRARY = os.path.dirname(os.__file__) + os.sep


def write_recipe(factory: Callable[..., object], args: tuple[Any, ...], propagated: tuple[Any, ...] = ()) -> bytes:
    """The factory with its arguments, for a worker, and what its calls get of their callers. Raises the pickler's own error."""
    product = payload.dumps((factory, args, propagated))
    # "" and other relative entries mean the directory of now, wherever the worker will be.
    path = [_absolute(entry) for entry in list[object](sys.path) if isinstance(entry, str)]
    missing, shadowed = _homeless_modules(path)
    return payload.dumps((path, missing, shadowed, product))


class Recipe:
    """What `write_recipe` wrote, in the worker: `install()` first, then `load()`."""

    __slots__ = ("_missing", "_path", "_product", "_shadowed")

    def __init__(self, body: bytes) -> None:
        self._path, self._missing, self._shadowed, self._product = payload.loads(body)

    def install(self, *, elsewhere: bool = False) -> None:
        """Make this process find the modules that the parent finds. Imports nothing.

        With `elsewhere` it may be on another machine, with other files: its own come first, and of the parent's those that are here too.
        """
        if elsewhere:
            sys.path += [entry for entry in self._path if entry not in sys.path]
            self._missing, self._shadowed = _those_here(self._missing), _those_here(self._shadowed)
        else:
            sys.path[:] = self._path
        if self._missing:
            sys.meta_path.append(Finder(self._missing))
        if self._shadowed:
            sys.meta_path.insert(0, Finder(self._shadowed))

    def load(self) -> tuple[Callable[..., Any], tuple[Any, ...], tuple[Any, ...]]:
        """Import what the factory needs and return it, its arguments and what is propagated. Raises whatever the user's modules raise."""
        factory, args, propagated = payload.loads(self._product)
        return factory, args, propagated


class Finder:
    """Finds the modules of a table, and no others."""

    def __init__(self, places: dict[str, Place]) -> None:
        self._places = places

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where the module is, by the table; the import system's protocol."""
        place = self._places.get(name)
        if place is None:
            return None
        from importlib.machinery import ModuleSpec, SourceFileLoader
        from importlib.util import spec_from_file_location

        file, locations = place
        if file is None:
            spec = ModuleSpec(name, None, is_package=True)  # without a loader it becomes a namespace package
            spec.submodule_search_locations = locations
            return spec
        # The second: an entry script may have any suffix, or none.
        return spec_from_file_location(name, file) or spec_from_file_location(
            name, file, loader=SourceFileLoader(name, file)
        )


def _homeless_modules(path: list[str]) -> tuple[dict[str, Place], dict[str, Place]]:
    """The modules that this path does not lead to: those which a worker would miss, and those it would take another for.

    The latter's finder must come first: a package of tests that is called `test` has a namesake in the standard library.
    """
    known: dict[str, ModuleSpec | None] = {}
    missing: dict[str, Place] = {}
    shadowed: dict[str, Place] = {}
    for name, module in list(sys.modules.items()):
        namespace = _namespace(module)
        file = namespace.get("__file__")
        if name == "__main__" or not isinstance(file, str):
            continue
        if file.startswith(_LIBRARY) or any(part in file for part in _INSTALLED):
            continue
        found = _find(name, path, known)
        if found is None:
            missing[name] = (_absolute(file), _locations(namespace))
        elif (
            not _is_same_file(found.origin, file) and namespace.get("__name__") == name
        ):  # not an alias of another module
            shadowed[name] = (_absolute(file), _locations(namespace))
    for name in [*missing]:
        while name := name.rpartition(".")[0]:
            if name not in missing and name not in shadowed and _find(name, path, known) is None:
                missing[name] = (None, _locations(_namespace(sys.modules.get(name))))
    return missing, shadowed


def _those_here(places: dict[str, Place]) -> dict[str, Place]:
    return {name: (file, where) for name, (file, where) in places.items() if file is None or os.path.exists(file)}


def _find(name: str, path: list[str], known: dict[str, ModuleSpec | None]) -> ModuleSpec | None:
    """What a fresh process with this path would find: in the package that it would find, not in the one that is here.

    A package that adds to its `__path__` when it is run is not foreseen. Then a module is in the table without need, and
    the worker finds it before it asks the table.
    """
    if name not in known:
        from importlib.machinery import PathFinder

        known[name] = None
        parent = name.rpartition(".")[0]
        package = _find(parent, path, known) if parent else None
        try:
            places = package.submodule_search_locations if package else None if parent else path
            if places:
                known[name] = PathFinder.find_spec(name, places)
        except Exception:  # noqa: BLE001 - somebody's path hook: it finds nothing in the worker either
            pass
    return known[name]


def _namespace(module: ModuleType | None) -> dict[str, Any]:
    """A module's names, without waking a lazy one. Anything may be in `sys.modules`."""
    try:
        namespace = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return namespace if isinstance(namespace, dict) else {}


def _locations(namespace: dict[str, Any]) -> list[str]:
    try:
        return [entry for entry in namespace.get("__path__", ()) if isinstance(entry, str)]
    except Exception:  # noqa: BLE001 - a namespace package computes it from its parent's, which may be gone
        return []


def _is_same_file(found: str | None, file: str) -> bool:
    if found is None:
        return False
    if _absolute(found) == _absolute(file):
        return True
    try:
        return os.path.samefile(found, file)
    except OSError:
        return False


def _absolute(path: str) -> str:
    """`os.path.abspath`, where the current directory still exists. Where it does not, a relative path leads nowhere anyway."""
    try:
        return os.path.abspath(path)
    except OSError:
        return path
