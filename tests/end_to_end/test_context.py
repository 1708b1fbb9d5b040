"""What a call has of its caller: the values of context variables; and what the caller's program has of it: what it logs."""

from __future__ import annotations

import enum
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextvars import ContextVar

import anyio
import pytest

import gibbs
from tests.end_to_end import variables_beside
from tests.end_to_end.callers import WATCHDOG, until

request_id: ContextVar[str] = ContextVar("request_id", default="nobody's")


class Tells:
    """What it sees of both variables."""

    interruptible = True

    def __call__(self):
        return request_id.get(), variables_beside.user.get("nobody")

    def changes(self):
        request_id.set("changed")
        return self()

    def yields(self):
        yield self()
        request_id.set("changed between")
        yield self()

    def closes(self, folder):
        try:
            yield 1
            yield 2
        finally:
            with open(os.path.join(folder, "closed"), "w") as file:
                file.write(repr(self()))

    @gibbs.batched()
    def batch(self, items):
        return [self() for _ in items]

    def raises(self):
        raise LookupError(request_id.get())

    def follows(self):
        gibbs.report(self())
        return self()


@pytest.fixture
def opened(either_launcher):
    def opened(model, *args, **options):
        options = {"workers": 1, "launcher": either_launcher, "cancel_grace": WATCHDOG} | options
        return gibbs.open_hub(model, *args, **options)

    return opened


BOTH = [request_id, variables_beside.user]


async def with_values(values, ask):
    """In a task of its own, whose context nobody else has."""
    found = []

    async def run():
        for variable, value in values.items():
            variable.set(value)
        found.append(await ask())

    async with anyio.create_task_group() as tg:
        tg.start_soon(run)
    return found[0]


async def test_a_call_sees_what_its_caller_has_set_and_nothing_of_others(opened):
    async with opened(Tells, propagate=BOTH) as hub:
        assert await with_values({request_id: "a", variables_beside.user: "Ann"}, hub.request) == ("a", "Ann")
        assert await with_values({request_id: "b"}, hub.request) == ("b", "nobody")
        assert await with_values({}, hub.request) == ("nobody's", "nobody")
        assert await with_values({variables_beside.user: "Eve"}, hub.request) == ("nobody's", "Eve")


async def test_what_a_call_sets_is_gone_with_it(opened):
    async with opened(Tells, propagate=BOTH) as hub:
        assert await with_values({request_id: "a"}, hub.method("changes").request) == ("changed", "nobody")
        assert await with_values({}, hub.request) == ("nobody's", "nobody")


async def test_only_what_is_asked_for_is_brought(opened):
    async with opened(Tells, propagate=[variables_beside.user]) as hub:
        values = {request_id: "a", variables_beside.user: "Ann"}
        assert await with_values(values, hub.request) == ("nobody's", "Ann")
    async with opened(Tells) as hub:
        assert await with_values(values, hub.request) == ("nobody's", "nobody")


async def test_a_generator_sees_it_at_each_of_its_steps_and_when_it_is_closed(opened, tmp_path):
    async def read():
        async with hub.method("yields").stream() as items:
            return [item async for item in items]

    async def leave():
        # With room for more it might come to its end, and be interrupted in the middle of its `finally`.
        async with hub.method("closes").using(buffer=1).stream(str(tmp_path)) as items:
            return await anext(items)

    async with opened(Tells, propagate=BOTH) as hub:
        assert await with_values({request_id: "a"}, read) == [("a", "nobody"), ("changed between", "nobody")]
        assert await with_values({request_id: "b"}, leave) == 1
        assert await hub.request() == ("nobody's", "nobody")
    assert (tmp_path / "closed").read_text() == repr(("b", "nobody"))


async def test_a_job_and_the_items_of_a_map_see_it_and_a_batch_does_not(opened):
    async def follow():
        async with hub.method("follows").track() as job:
            return [word async for word in job.progress], await job.result()

    async def each():
        async with hub.method("of").map(range(3)) as results:
            return [result async for result in results]

    async with opened(OfEach, propagate=BOTH) as hub:
        assert await with_values({request_id: "a"}, follow) == ([("a", "nobody")], ("a", "nobody"))
        assert await with_values({request_id: "b"}, each) == [(n, ("b", "nobody")) for n in range(3)]
        batched = await with_values({request_id: "c"}, lambda: hub.method("batch").request(1))
        assert batched == ("nobody's", "nobody")
        with pytest.raises(ExceptionGroup) as caught:
            await with_values({request_id: "d"}, hub.method("raises").request)
        assert "d" in str(caught.value.exceptions[0])


class OfEach(Tells):
    def of(self, n):
        return n, self()


async def test_a_request_that_is_sent_again_has_the_values_that_it_had(opened, tmp_path):
    async with opened(DiesOnce, propagate=BOTH) as hub:

        async def ask():
            return await hub.using(retries=1).request(str(tmp_path / "died"))

        assert await with_values({request_id: "a"}, ask) == ("a", "nobody")
        assert hub.statistics().retried == 1


class DiesOnce(Tells):
    def __call__(self, path):
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return super().__call__()


async def test_a_value_that_cannot_be_pickled_is_refused_by_the_variables_name_and_nothing_is_sent(opened):
    async with opened(Tells, propagate=BOTH) as hub:
        with pytest.raises(ExceptionGroup) as caught:
            await with_values({request_id: threading.Lock()}, hub.request)
        [error] = caught.value.exceptions
        assert isinstance(error, TypeError)
        assert str(error).startswith("the context variable 'request_id' is propagated, and cannot be pickled: ")
        assert hub.statistics().done == hub.statistics().failed == 0
        with pytest.raises(ExceptionGroup) as caught:
            await with_values({request_id: "fine"}, lambda: hub.request(threading.Lock()))
        assert "request_id" not in str(caught.value.exceptions[0]), "an argument is to blame"


@pytest.mark.parametrize("bad", [3, "request_id", request_id, ["request_id"], None])
def test_what_is_no_list_of_variables_is_refused(bad):
    with pytest.raises(TypeError, match="propagate must be a list of context variables"):
        gibbs.open_hub(Tells, workers=1, propagate=bad)


def test_a_variable_of_a_script_is_the_one_that_the_scripts_model_sees(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from contextvars import ContextVar
            import anyio
            import gibbs

            who = ContextVar("who", default="nobody")
            kept = ContextVar("kept", default="as it was")

            class Model:
                def __call__(self):
                    return who.get(), kept.get()

            async def main():
                async with gibbs.open_hub(Model, workers=1, propagate=[who]) as hub:
                    print(await hub.request())
                    who.set("Ann")
                    kept.set("not brought")
                    print(await hub.request())

            anyio.run(main)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=WATCHDOG, check=True)
    assert done.stdout == "('nobody', 'as it was')\n('Ann', 'as it was')\n"


# --------------------------------------------------------------------------------------------------------------- logs


class Logs:
    interruptible = True

    def __init__(self):
        logging.getLogger("tests.of_logs").warning("it is built")

    def __call__(self, text, *args, level=logging.WARNING, name="tests.of_logs", **extra):
        logging.getLogger(name).log(level, text, *args, extra=extra)

    def fails(self):
        try:
            raise LookupError("not there")
        except LookupError:
            logging.getLogger("tests.of_logs").exception("it failed")

    def many(self, count):
        for n in range(count):
            logging.getLogger("tests.of_logs").warning("%d", n)

    def from_threads(self, count):
        threads = [threading.Thread(target=self.many, args=(count,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def without_end(self):
        while True:
            logging.getLogger("tests.of_logs").warning("still here")

    def logs_and_dies(self):
        logging.getLogger("tests.of_logs").warning("last words")
        os._exit(1)

    def in_a_fork(self):
        child = os.fork()
        if not child:
            logging.getLogger("tests.of_logs").warning("from a fork")
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def from_the_grave(self):
        for _ in range(500):
            Mourned()
        return [Mourned() for _ in range(100)]

    def wrong(self):
        logging.getLogger("tests.of_logs").warning("%d", "no number")
        return "went on"


class Mourned:
    def __init__(self):
        self.itself = self  # so that a collection finds it, at any time

    def __del__(self):
        logging.getLogger("tests.of_logs").warning("gone")

    def __reduce__(self):
        logging.getLogger("tests.of_logs").warning("pickled")
        return int, (1,)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def messages(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept():
    handler = Kept()
    logger = logging.getLogger("tests.of_logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_what_a_model_logs_is_handled_here_with_its_seat_and_its_request(opened, kept):
    async with opened(Logs, name="logs") as hub:
        assert kept.messages == ["it is built"]
        await hub.request("the answer to %s is %d", "all", 42)
        first, second = kept.records
        assert second.getMessage() == "the answer to all is 42"
        assert (second.name, second.levelname) == ("tests.of_logs", "WARNING")
        assert (second.hub, second.seat, second.incarnation, second.request_id) == ("logs", 0, 1, 1)
        assert (first.hub, first.seat, first.request_id) == ("logs", 0, None)
        assert second.processName == "logs/0"
        assert second.process in hub.statistics().pids
        assert second.funcName == "__call__"
        assert second.pathname == __file__
        await hub.request("again")
        assert kept.records[-1].request_id == 2


async def test_what_this_program_would_not_log_does_not_come(opened, kept):
    async with opened(Logs) as hub:
        await hub.request("too little", level=logging.DEBUG)
        await hub.request("enough", level=logging.INFO)
        await hub.request("of another logger", level=logging.INFO, name="tests.others")
        kept.records.clear()
        logging.getLogger("tests.of_logs").setLevel(logging.ERROR)
        await hub.request("no more")
        assert kept.messages == []
        logging.getLogger("tests.of_logs").setLevel(logging.INFO)
        await hub.request("yes")
        assert kept.messages == ["yes"]
        logging.disable(logging.CRITICAL)
        try:
            await hub.request("nothing at all")
        finally:
            logging.disable(logging.NOTSET)
        assert kept.messages == ["yes"]


async def test_a_record_for_a_logger_that_is_not_here_goes_to_the_one_above_it_and_makes_none(opened, kept):
    async with opened(Logs) as hub:
        await hub.request("from below", name="tests.of_logs.below.that")
        assert kept.records[-1].name == "tests.of_logs.below.that"
        assert "tests.of_logs.below.that" not in logging.root.manager.loggerDict


async def test_an_exception_comes_in_words_and_an_extra_that_is_plain_as_it_is(opened, kept):
    async with opened(Logs) as hub:
        await hub.method("fails").request()
        assert "LookupError: not there" in logging.Formatter().format(kept.records[-1])
        await hub.request("with more", user="Ann", request_id="the model's own", what=object())
        record = kept.records[-1]
        assert (record.user, record.request_id) == ("Ann", "the model's own")
        assert not hasattr(record, "what")


async def test_records_come_in_order_before_the_answer_and_none_is_missing(opened, kept):
    async with opened(Logs) as hub:
        kept.records.clear()
        await hub.method("many").request(3000)
        assert kept.messages == [str(n) for n in range(3000)]
        kept.records.clear()
        await hub.method("from_threads").request(500)
        assert sorted(kept.messages, key=int) == [str(n) for n in range(500) for _ in range(4)]


async def test_a_call_that_logs_all_the_time_is_interrupted_and_its_worker_kept(opened, kept):
    async with opened(Logs) as hub:
        for times in range(10):
            async with anyio.create_task_group() as tg:
                tg.start_soon(hub.method("without_end").request)
                await until(lambda: len(kept.records) > 100)
                tg.cancel_scope.cancel()
            await until(lambda times=times: hub.statistics().interrupted == times + 1)
            kept.records.clear()
        await hub.request("kept")
        assert kept.messages[-1] == "kept"
        assert hub.statistics().restarts == 0


async def test_last_words_are_heard(opened, kept):
    async with opened(Logs) as hub:
        with pytest.raises(gibbs.WorkerCrashed):
            await hub.method("logs_and_dies").request()
        assert "last words" in kept.messages


async def test_what_is_logged_when_something_is_thrown_away_or_pickled_cuts_no_message_in_two(opened, kept):
    async with opened(Logs) as hub:
        for _ in range(5):
            assert await hub.method("from_the_grave").request() == [1] * 100
        assert {"gone", "pickled"} <= {*kept.messages}
        assert hub.statistics().restarts == 0


async def test_a_fork_of_the_model_logs_on_its_stderr(heard, kept):
    async with gibbs.open_hub(Logs, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        assert await hub.method("in_a_fork").request() == 0
        await heard.line("from a fork")
        assert "from a fork" not in kept.messages


async def test_a_record_that_is_wrong_is_told_on_stderr_and_costs_nothing(heard, kept):
    async with gibbs.open_hub(Logs, workers=1, launcher=gibbs.LocalLauncher(output=heard)) as hub:
        assert await hub.method("wrong").request() == "went on"
        await heard.line("--- Logging error ---")


async def test_with_logs_false_a_worker_logs_for_itself(heard, kept):
    async with gibbs.open_hub(Logs, workers=1, launcher=gibbs.LocalLauncher(output=heard), logs=False):
        await heard.line("it is built")
    assert kept.messages == []


async def test_workers_that_are_not_trusted_are_heard_too(opened, kept):
    async with opened(Logs, results=gibbs.Safe()) as hub:
        await hub.request("hello")
        assert kept.messages == ["it is built", "hello"]


async def test_a_handler_that_raises_ends_nothing(opened, kept):
    class Raises(logging.Handler):
        def emit(self, record):
            raise LookupError("of the handler")

    handler = Raises()
    logging.getLogger("tests.of_logs").addHandler(handler)
    try:
        async with opened(Logs) as hub:
            for n in range(3):
                await hub.request(str(n))
            assert hub.statistics().done == 3
            assert hub.statistics().restarts == 0
    finally:
        logging.getLogger("tests.of_logs").removeHandler(handler)


@pytest.mark.parametrize("bad", [None, 1, "no"])
def test_logs_is_true_or_false(bad):
    with pytest.raises(TypeError, match="logs must be True or False"):
        gibbs.open_hub(Logs, workers=1, logs=bad)


# ---------------------------------------------------------------------------------------------- what others do to logging


class Colour(enum.StrEnum):
    RED = "tests.of_logs"


class Level(enum.IntEnum):
    LOUD = 35


class Odd:
    def __call__(self, kind):
        logger = logging.getLogger(Colour.RED)
        if kind == "an enum's level":
            logger.log(Level.LOUD, "odd")
        elif kind == "an enum's extra":
            logger.warning("odd", extra={"colour": Colour.RED, "loud": Level.LOUD})
        elif kind == "made by hand":
            logger.handle(logging.makeLogRecord({"msg": "odd", "levelno": 30, "levelname": "WARNING"}))
        elif kind == "nowhere":
            record = logging.makeLogRecord({"name": "tests.of_logs", "msg": "odd", "levelno": 30})
            record.created, record.pathname, record.lineno = 5, None, None
            logger.handle(record)
        elif kind == "long":
            logger.warning("odd%s", "y" * (3 << 20), stack_info=True, extra={str(n): "x" * 15_000 for n in range(100)})
        else:
            logger.warning("odd")
        return kind

    def copies_the_handler(self):
        logger = logging.getLogger("tests.of_logs")
        for handler in logging.getLogger().handlers:
            logger.addHandler(handler)
        child = os.fork()
        if not child:
            for _ in range(100):
                logger.warning("from a fork")
            os._exit(0)
        for _ in range(100):
            logger.warning("from the worker")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", ["plain", "an enum's level", "an enum's extra", "made by hand", "nowhere", "long"])
async def test_whatever_a_record_is_made_of_it_comes_and_costs_no_worker(opened, kept, kind):
    async with opened(Odd, max_message=1 << 20) as hub:
        assert await hub.request(kind) == kind
        if kind != "made by hand":  # by no logger's name: the root's handlers have it
            assert kept.messages[-1].startswith("odd")
        assert hub.statistics().restarts == 0


async def test_a_fork_that_has_the_handler_all_the_same_writes_nothing_to_the_hub(opened, kept):
    async with opened(Odd) as hub:
        assert await hub.method("copies_the_handler").request() == 0
        assert hub.statistics().restarts == 0
        assert {*kept.messages} <= {"from the worker"}


async def test_a_record_factory_of_the_program_has_what_a_record_is_made_of(opened, kept):
    before = logging.getLogRecordFactory()

    def factory(name, *args, **kwargs):
        record = before(name, *args, **kwargs)
        record.top = name.partition(".")[0]
        return record

    logging.setLogRecordFactory(factory)
    try:
        async with opened(Logs) as hub:
            await hub.request("hello")
    finally:
        logging.setLogRecordFactory(before)
    assert [(record.getMessage(), record.top) for record in kept.records] == [
        ("it is built", "tests"),
        ("hello", "tests"),
    ]


async def test_a_factory_that_raises_ends_nothing(opened, kept):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        raise LookupError("of the factory")

    async with opened(Logs) as hub:
        logging.setLogRecordFactory(factory)
        try:
            await hub.request("hello")
        finally:
            logging.setLogRecordFactory(before)
        assert hub.statistics().restarts == 0


async def test_levels_that_are_an_enums_are_told_a_worker_as_numbers(opened, kept):
    logging.getLogger("tests.of_logs").setLevel(Level.LOUD)
    async with opened(Logs) as hub:
        await hub.request("too little", level=logging.WARNING)
        await hub.request("enough", level=logging.ERROR)
    assert kept.messages == ["enough"]


class WithItsOwnLoggers:
    """A library whose loggers are of a class of its own, and a set-up that turns off those that it finds."""

    def __call__(self):
        class Own(logging.Logger):
            def trace(self, words):
                self.warning(words)

        logging.setLoggerClass(Own)
        logging.getLogger("tests.of_logs").trace("traced")
        return logging.getLogger("tests.of_logs").level


async def test_a_worker_makes_no_loggers_in_the_models_place(opened, kept):
    async with opened(WithItsOwnLoggers) as hub:
        assert await hub.request() == logging.INFO
        assert kept.messages == ["traced"]


def test_to_look_whether_logging_is_there_is_not_to_import_it(tmp_path):
    code = """
        import importlib.util, sys
        from gibbs._worker.logs import _WhenImported
        said = []
        sys.meta_path.insert(0, _WhenImported("logging", said.append))
        assert importlib.util.find_spec("logging") and not said
        import logging
        assert said == [logging] and type(logging.__spec__.loader).__name__ == "SourceFileLoader"
    """
    subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(code)],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


# ------------------------------------------------------------------------------------------ interrupts, and who may not be


class Stubborn:
    """May not be interrupted, and logs while its reader leaves."""

    def gen(self, folder):
        try:
            yield 1
            for _ in range(50):
                time.sleep(0.01)
                logging.getLogger("tests.of_logs").warning("a step")
            with open(os.path.join(folder, "ran through"), "w"):
                pass
            yield 2
        finally:
            logging.getLogger("tests.of_logs").warning("closed")


@pytest.mark.parametrize("on_cancel", [None, "finish"])
async def test_a_model_that_may_not_be_interrupted_is_not_when_it_logs(opened, kept, on_cancel, tmp_path):
    async with opened(Stubborn) as hub:
        async with hub.using(on_cancel=on_cancel).method("gen").stream(str(tmp_path)) as items:
            assert await anext(items) == 1
            await until(lambda: "a step" in kept.messages)
        await until(lambda: "closed" in kept.messages)
        assert (tmp_path / "ran through").exists()
        assert hub.statistics().restarts == 0


class LimitsItself:
    """Raises in a signal handler of its own, wherever its call is."""

    def __call__(self, logs):
        def raise_timeout(signum, frame):
            raise TimeoutError("the model's own")

        signal.signal(signal.SIGVTALRM, raise_timeout)
        try:
            signal.setitimer(
                signal.ITIMER_VIRTUAL, 0.003, 0.003
            )  # of its own time: no second one before it has caught the first
            while True:
                if logs:
                    logging.getLogger("tests.of_logs").warning("x")
                else:
                    gibbs.report("x")
        except TimeoutError:
            return "timed out"
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@pytest.mark.parametrize("logs", [True, False], ids=["logs", "reports"])
async def test_a_limit_of_time_that_a_model_sets_itself_leaves_no_lock_and_no_half_a_message(opened, kept, logs):
    async with opened(LimitsItself) as hub:
        with anyio.fail_after(WATCHDOG):
            for _ in range(8):
                async with hub.track(logs) as job:
                    assert await job.result() == "timed out"
        assert hub.statistics().restarts == 0


class InAClass:
    variable: ContextVar[str] = ContextVar("in_a_class", default="nobody's")

    def __call__(self):
        return self.variable.get()

    @gibbs.batched()
    def batch(self, items):
        self.variable.set("leaked")
        return items


async def test_a_variable_of_a_class_is_found_and_a_batch_leaves_nothing(opened):
    async with opened(InAClass, propagate=[InAClass.variable]) as hub:
        assert await with_values({InAClass.variable: "a"}, hub.request) == "a"
        assert await hub.method("batch").request(1) == 1
        assert await hub.request() == "nobody's"
