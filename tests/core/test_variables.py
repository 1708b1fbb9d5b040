"""How context variables travel: found where a module has them, and otherwise made once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from contextvars import ContextVar

from gibbs._wire import payload, variables

here: ContextVar[int] = ContextVar("here")


def test_one_of_a_module_is_found_there():
    assert payload.loads(payload.dumps(here)) is here


def test_one_of_a_function_is_the_same_each_time_it_comes_and_has_its_default():
    inside: ContextVar[int] = ContextVar("inside", default=3)
    without: ContextVar[int] = ContextVar("inside")
    assert payload.loads(payload.dumps([inside, without])) == [inside, without], "here they are themselves"
    parts = [variables.parts_of(one) for one in (inside, without)]
    made = [[make(f"{name}, elsewhere", *rest) for make, (name, *rest) in parts] for _ in range(2)]
    assert made[0][0] is made[1][0] is not made[0][1] is made[1][1]
    assert made[0][0].get() == 3
    assert made[0][1].get("nothing") == "nothing"
    assert payload.loads(payload.dumps(made[0][0])) is made[0][0], "and on its way back"


def test_what_refers_to_one_refers_to_the_one_that_came():
    inside: ContextVar[int] = ContextVar("inside")
    variable, get = payload.loads(payload.dumps((inside, lambda: inside.get(0))))
    variable.set(7)
    assert get() == 7


def test_a_lazy_module_is_not_woken_and_what_is_no_module_is_passed_over(monkeypatch):
    spec = importlib.util.find_spec("this")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    monkeypatch.setitem(sys.modules, "this", lazy)
    monkeypatch.setitem(sys.modules, "tests.none", None)
    variables.parts_of(ContextVar("inside"))
    assert type(lazy) is not types.ModuleType, "still asleep"


def test_one_of_main_is_made_anew_by_a_reader_whose_main_is_another():
    code = (
        "from contextvars import ContextVar; from gibbs._wire import payload; import sys; "
        "v = ContextVar('v', default=5); sys.stdout.buffer.write(payload.dumps(v))"
    )
    body = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    variable = payload.loads(body)
    assert (variable.name, variable.get()) == ("v", 5)
    assert payload.loads(body) is variable
