"""Objects as bytes, in one process and between two. Where two matter, a program with a `__main__` of its own starts a child."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gibbs
from gibbs._wire import payload

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gibbs.__file__).parents[1])}

PROGRAM = '''
import subprocess, sys, enum
from gibbs._wire import payload

CHILD = """
import sys
from gibbs._wire import payload
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
while size := stdin.read(8):
    function, args = payload.loads(stdin.read(int.from_bytes(size, "big")))
    try:
        body = payload.dumps(function(*args))
    except Exception as error:
        body = payload.dumps(error)
    stdout.write(len(body).to_bytes(8, "big") + body)
    stdout.flush()
"""
child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def call(function, *args):
    body = payload.dumps((function, args))
    child.stdin.write(len(body).to_bytes(8, "big") + body)
    child.stdin.flush()
    size = int.from_bytes(child.stdout.read(8), "big")
    return payload.loads(child.stdout.read(size))
'''


def run_program(text: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    ending = "\nchild.stdin.close()\nassert child.wait() == 0\n"
    script.write_text(PROGRAM + textwrap.dedent(text) + ending)
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_a_value_comes_back_equal(value):
    assert payload.loads(payload.dumps(value)) == value


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_is_read(kind):
    assert payload.loads(kind(payload.dumps([1, 2]))) == [1, 2]
    assert payload.loads(kind(payload.dumps(lambda: 3)))() == 3


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x02abc"])
def test_bytes_that_are_no_payload_are_refused(body):
    with pytest.raises(Exception, match="does not begin"):
        payload.loads(body)


def test_a_plain_value_is_an_ordinary_pickle():
    assert payload.dumps((1, "a"))[:1] == b"\x80"


def test_a_text_that_mentions_main_takes_the_plain_road():
    assert payload.dumps("if __name__ == '__main__':")[:1] == b"\x80"


def test_a_text_that_is_just_main_comes_back():
    assert payload.loads(payload.dumps(["__main__"])) == ["__main__"]


def test_a_lock_raises_the_picklers_own_error():
    with pytest.raises(TypeError, match="lock"):
        payload.dumps([threading.Lock()])


def test_a_lock_inside_an_instance_of_a_local_class_is_named_and_not_the_class():
    class Local:
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        payload.dumps(Local())


class Refusing:
    def __reduce__(self):
        raise ValueError("not me") from KeyError("why")


def test_an_objects_own_error_keeps_its_cause():
    with pytest.raises(ValueError, match="not me") as caught:
        payload.dumps(Refusing())
    assert isinstance(caught.value.__cause__, KeyError)


def test_endless_depth_is_a_recursion_error():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        payload.dumps(deep)


def test_endless_depth_beside_a_local_class_is_a_recursion_error_too():
    class Local:
        pass

    deep: object = Local()
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        payload.dumps([Local, deep])


def test_a_failed_dump_holds_no_reference_to_the_object():
    class Local:
        pass

    held = Local()
    held.lock = threading.Lock()
    gc.disable()
    try:
        before = sys.getrefcount(held)
        try:
            payload.dumps(held)
        except TypeError:
            pass
        assert sys.getrefcount(held) == before
    finally:
        gc.enable()


def test_a_local_class_is_the_same_class_on_return():
    class Local:
        pass

    assert type(payload.loads(payload.dumps(Local()))) is Local


def test_a_class_that_is_here_is_not_set_again():
    class Counter:
        count = 0

    body = payload.dumps(Counter())
    Counter.count = 5
    payload.loads(body)
    assert Counter.count == 5


class Registering(type):
    """A metaclass that counts the classes it makes."""

    made = 0

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        Registering.made += 1


def test_a_class_that_is_here_is_not_built_again():
    class Local(metaclass=Registering):
        pass

    made = Registering.made
    payload.loads(payload.dumps(Local()))
    assert Registering.made == made


def test_a_class_whose_first_stream_failed_half_way_is_filled_by_the_next(tmp_path):
    run_program(
        """
        class Fuse:
            def __reduce__(self): return eval, ("None if hasattr(__import__('sys'), 'calm') else 1 / 0",)

        class Model:
            fuse = Fuse()
            def answer(self): return 42

        def load_twice(body):
            import sys
            from gibbs._wire import payload
            try:
                payload.loads(body)
            except ZeroDivisionError:
                sys.calm = True
                return payload.loads(body).answer()

        assert call(load_twice, payload.dumps(Model())) == 42
        """,
        tmp_path,
    )


def test_a_class_of_main_keeps_its_identity_there_and_back(tmp_path):
    run_program(
        """
        class Point:
            def __init__(self, x): self.x = x
            def doubled(self): return Point(self.x * 2)

        answer = call(lambda point: point.doubled(), Point(4))
        assert type(answer) is Point and answer.x == 8
        """,
        tmp_path,
    )


def test_an_enum_member_of_main_is_the_same_object_on_return(tmp_path):
    run_program(
        """
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

        assert call(lambda colour: Colour.BLUE if colour is Colour.RED else None, Colour.RED) is Colour.BLUE
        """,
        tmp_path,
    )


def test_an_exception_of_main_is_caught_by_its_class(tmp_path):
    run_program(
        """
        class Boom(Exception): pass
        def fail(): raise Boom(3)

        try:
            raise call(fail)
        except Boom as boom:
            assert boom.args == (3,)
        """,
        tmp_path,
    )


def test_a_class_attribute_counts_on_both_sides_and_is_never_reset(tmp_path):
    run_program(
        """
        import gc
        class Counter:
            count = 0

        def count_there(counter):
            type(counter).count += 1
            return type(counter).count, counter

        def collect():
            import gc
            gc.collect()

        for here in range(1, 6):
            Counter.count = 100 * here
            there, counter = call(count_there, Counter())
            # The child's count begins where the parent's was when the class first travelled.
            assert there == 100 + here, there
            assert Counter.count == 100 * here, Counter.count
            assert type(counter) is Counter
            call(collect)
        """,
        tmp_path,
    )


def test_methods_of_the_parents_class_are_never_replaced(tmp_path):
    run_program(
        """
        class Model:
            def name(self): return "old"

        method = Model.name
        call(lambda model: model, Model())
        assert Model.name is method
        Model.name = patched = lambda self: "new"
        assert call(lambda model: model, Model()).name() == "new"
        assert Model.name is patched
        """,
        tmp_path,
    )


def test_a_dataclass_of_main_and_its_subclass_travel(tmp_path):
    run_program(
        """
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Base:
            x: int
        @dataclasses.dataclass(frozen=True)
        class Derived(Base):
            y: list = dataclasses.field(default_factory=list)

        answer = call(lambda value: dataclasses.replace(value, x=value.x + 1), Derived(1, [2]))
        assert answer == Derived(2, [2]) and isinstance(answer, Base)
        """,
        tmp_path,
    )


def test_a_class_made_in_the_worker_arrives(tmp_path):
    run_program(
        """
        def make():
            class Local:
                x = 7
                def twice(self): return self.x * 2
            return Local()

        assert call(make).twice() == 14
        """,
        tmp_path,
    )


def test_main_is_not_run_in_the_child(tmp_path):
    run_program(
        """
        import os
        class Model: pass
        marker = os.environ.get("GIBBS_RAN")
        assert marker is None
        os.environ["GIBBS_RAN"] = "1"
        assert call(lambda model: sys.modules["__main__"].__dict__.get("Model"), Model()) is None
        """,
        tmp_path,
    )


def test_classes_that_were_built_here_are_held_in_a_bounded_number(tmp_path):
    run_program(
        """
        def make(n):
            return type(f"Local{n}", (), {"__module__": "__main__"})()

        for n in range(payload._HELD + 10):
            call(make, n)
        assert len(payload._held) == payload._HELD
        assert not payload._unfinished
        """,
        tmp_path,
    )


def test_importing_the_wire_stays_light():
    program = (
        "import sys; from gibbs._wire import payload, failure, recipe;"
        "heavy = {'typing', 'dataclasses', 'logging', 'inspect', 'enum', 'traceback', 're', 'pickle', 'cloudpickle',"
        " 'importlib.util', 'asyncio', 'anyio'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
