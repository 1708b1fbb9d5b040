"""A model with classes of all kinds, and the check that they stay what they are on both sides.

The tests import it as a module that lies beside them, and paste its text into programs, for all the other places where a
user's classes may live. `BY_REFERENCE` says which of the two it is: functions keep their identity only by reference.
"""

import enum
import os
from dataclasses import dataclass

import anyio

import gibbs

BY_REFERENCE = __name__ != "__main__"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: int = 0


class Counted:
    seen = 0


class Outer:
    class Inner:
        def __init__(self, value):
            self.value = value


class Boom(Exception):
    def __init__(self, point, *, colour):
        super().__init__(f"at {point.x}")
        self.point = point
        self.colour = colour


class Pop(Exception):
    pass


def double(x):
    return 2 * x


class Base:
    def __init__(self, start=0):
        self.start = start


class Model(Base):
    calls = 0

    def __init__(self, start=0):
        super().__init__(start)

    def __call__(self, point, colour):
        assert type(point) is Point
        assert colour is Colour.BLUE
        Model.calls += 1
        return Point(point.x + self.start, Model.calls), Colour.RED, Right.READ | Right.WRITE, Outer.Inner(point)

    def count(self, counted):
        assert type(counted) is Counted
        Counted.seen += 1
        return Counted.seen, counted

    def fail(self, point, colour):
        assert colour is Colour.RED
        raise Boom(point, colour=colour)

    def catch(self, pop):
        try:
            raise pop
        except Pop as error:
            return type(error.args[0]) is Point and error

    def apply(self, f, x):
        return f, f(x), f is double

    def nest(self, times):
        """The check again, in a hub of this worker's own."""
        start(check, type(self), 0, times - 1)

    def pid(self):
        return os.getpid()

    def die(self):
        os._exit(3)


async def check(factory, begin=0, nested=0):
    """Raise AssertionError if anything that goes to a worker and comes back is not of the parent's own classes."""
    async with gibbs.open_hub(factory, workers=1) as hub:
        parents_count, workers_count = Counted.seen, None
        parents_calls, workers_calls = Model.calls, None
        for turn in (1, 2, 3):
            Counted.seen += 10
            seen, counted = await hub.method("count").request(Counted())
            assert type(counted) is Counted
            assert Counted.seen == parents_count + 10 * turn
            assert workers_count in (None, seen - 1)
            workers_count = seen

            point, colour, right, inner = await hub.request(Point(turn), Colour.BLUE)
            assert type(point) is Point
            assert point.x == begin + turn
            assert Model.calls == parents_calls
            assert workers_calls in (None, point.y - 1)
            workers_calls = point.y
            assert colour is Colour.RED
            assert right is Right.READ | Right.WRITE
            assert type(inner) is Outer.Inner
            assert inner.value == Point(turn)
            caught = None
            try:
                await hub.method("fail").request(Point(turn), Colour.RED)
            except Boom as boom:
                caught = boom
            assert type(caught) is Boom
            assert str(caught) == f"at {turn}"
            assert caught.point == Point(turn)
            assert caught.colour is Colour.RED
            assert "in fail" in caught.__notes__[0]
            pop = await hub.method("catch").request(Pop(Point(turn)))
            assert type(pop) is Pop
            assert pop.args == (Point(turn),)
            f, doubled, same_there = await hub.method("apply").request(double, turn)
            assert f(turn) == doubled == 2 * turn
            assert (f is double) == same_there == BY_REFERENCE
        assert await hub.method("pid").request() != os.getpid()
        if nested:
            await hub.method("nest").request(nested)


def start(main, *args):
    """Run it on the loop that the environment names."""
    loop = os.environ["GIBBS_TEST_LOOP"]
    backend, options = ("asyncio", {"use_uvloop": True}) if loop == "uvloop" else (loop, {})
    anyio.run(main, *args, backend=backend, backend_options=options)
