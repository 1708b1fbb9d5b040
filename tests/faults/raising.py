"""What a model raises: every kind of exception that does harm to somebody, somewhere. Each function raises, or returns what raises later.

Importable on both sides, so that a class which can travel does.
"""

from __future__ import annotations

import os
import resource
import sys
import threading

import gibbs

# -------------------------------------------------------------------------------------------------------------- classes


class OwnError(Exception):
    pass


class OwnBase(BaseException):
    pass


class TwoArguments(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class UnpickleRaises(Exception):
    def __reduce__(self):
        return raise_runtime_error, ()


class UnpickleExits(Exception):
    def __reduce__(self):
        return sys.exit, ("while it was unpickled",)


class PickleExits(Exception):
    def __reduce__(self):
        sys.exit("while it was pickled")


class PickleKills(Exception):
    def __reduce__(self):
        os._exit(8)


class NoText(Exception):
    def __str__(self):
        raise OwnError("no text")


class ExitsInText(Exception):
    def __str__(self):
        sys.exit("in its text")


class LiesAboutItsClass(Exception):
    @property
    def __class__(self):
        return KeyboardInterrupt


def raise_runtime_error():
    raise RuntimeError("while it was unpickled")


# -------------------------------------------------------------------------------------------------------------- raising


def sys_exit(folder):
    sys.exit(3)


def exc_keyboardinterrupt(folder):
    raise KeyboardInterrupt


def exc_generatorexit(folder):
    raise GeneratorExit


def exc_baseexception(folder):
    raise OwnBase("a kind of its own")


def exc_asyncio_cancelled(folder):
    import asyncio  # here, as each import that a worker can do without: hundreds of workers start

    raise asyncio.CancelledError


def exc_interrupted(folder):
    raise gibbs.Interrupted


def exc_stopiteration(folder):
    raise StopIteration(5)


def exc_stopasynciteration(folder):
    raise StopAsyncIteration


def exc_both_kinds(folder):
    import asyncio

    class BothKinds(Exception, asyncio.CancelledError):
        pass

    raise BothKinds("an Exception, and a cancellation")


def exc_own(folder):
    raise OwnError("of the model")


def exc_has_remote_traceback(folder):
    try:
        raise LookupError("the reason")
    except LookupError as reason:
        raise ValueError("what came of it") from reason


def exc_caused_by_ki(folder):
    raise OwnError("of the model") from KeyboardInterrupt()


def exc_group(folder):
    raise ExceptionGroup("two", [OwnError("one"), ValueError("other")])


def exc_group_with_ki(folder):
    raise BaseExceptionGroup("two", [OwnError("one"), KeyboardInterrupt()])


def exc_group_deep_with_exit(folder):
    raise BaseExceptionGroup(
        "a", [ValueError("b"), BaseExceptionGroup("c", [BaseExceptionGroup("d", [SystemExit(1)])])]
    )


def exc_group_with_stopiteration(folder):
    raise ExceptionGroup("an ordinary one", [StopIteration(1)])


def exc_unpicklable(folder):
    raise OwnError(threading.Lock())


def exc_unpickle_raises(folder):
    raise UnpickleRaises("not to be rebuilt")


def exc_unpickle_exits(folder):
    raise UnpickleExits("not to be rebuilt")


def exc_pickle_exits(folder):
    raise PickleExits("not to be pickled")


def exc_pickle_kills(folder):
    raise PickleKills


def exc_two_arg_ctor(folder):
    raise TwoArguments(404, "not found")


def exc_needs_keywords(folder):
    import json

    raise json.JSONDecodeError("bad", "document", 3)


def exc_local_class(folder):
    class Local(Exception):
        pass

    raise Local("of a class made in the call")


def exc_without_text(folder):
    raise NoText


def exc_exits_in_its_text(folder):
    raise ExitsInText


def exc_lies_about_its_class(folder):
    raise LiesAboutItsClass("or does it")


def exc_eoferror(folder):
    raise EOFError("the model's own")


def exc_brokenpipe(folder):
    raise BrokenPipeError(32, "the model's own")


def exc_timeout(folder):
    raise TimeoutError("the model's own")


def exc_of_gibbs(folder):
    raise gibbs.WorkerCrashed("another hub", 1, 2, 3, signal="SIGKILL")


def exc_of_a_megabyte(folder):
    raise OwnError("x" * 1_000_000)


def recursion(folder):
    return recursion(folder)


def oom_rlimit(folder):
    """No more address space than is used now, and some."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# ------------------------------------------------------------------- results and arguments that raise when they are opened


class Opens:
    """Calls a function of this module where it is unpickled."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return globals()[self.name], (None,)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


# What follows returns a result, and the result is the fault.


def result_unpicklable(folder):
    return threading.Lock()


def result_unpickle_raises(folder):
    return Opens("exc_own")


def result_unpickle_sysexit(folder):
    return Opens("sys_exit")


def result_unpickle_ki(folder):
    return Opens("exc_keyboardinterrupt")


def result_unpickle_asyncio_cancelled(folder):
    return Opens("exc_asyncio_cancelled")


def result_unpickle_stopiteration(folder):
    return Opens("exc_stopiteration")


def result_deep(folder):
    return nested(100_000)


def result_is_a_generator(folder):
    return (n for n in range(3))


def result_is_an_exception(folder):
    return KeyboardInterrupt("returned, not raised")
