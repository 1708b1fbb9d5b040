"""What gibbs and its peers offer, for docs/why.md: each cell with the test, the fault that was run, or the parameter that does it.

A cell is "✔" or "✘", or says how: the parameter in backquotes is looked for in the peer's signature by tests/docs/test_why.py. A row with a `fault`
has what was seen when that fault of the catalogue was run, and the catalogue's test. The peers are in the order of `PEERS`, old gibbs left out.
"""

from __future__ import annotations

from typing import NamedTuple


class Feature(NamedTuple):
    """One row."""

    what: str
    fault: str = ""  # of the catalogue: then gibbs's test and the peers' verdicts stand there
    gibbs: str = "✔"
    test: str = ""  # of gibbs, under tests/
    to_process: str = "✘"
    trio_parallel: str = "✘"
    executor: str = "✘"
    pebble: str = "✘"
    loky: str = "✘"


FEATURES = [
    Feature(
        "an object in each worker",
        test="end_to_end/test_opening.py",
        to_process="a module's globals",
        trio_parallel="`init` and globals",
        executor="`initializer` and globals",
        pebble="`initializer` and globals",
        loky="`initializer` and globals",
    ),
    Feature(
        "asyncio · Trio",
        gibbs="✔ · ✔",
        test="conftest.py",
        to_process="✔ · ✔",
        trio_parallel="✘ · ✔",
        executor="✔ · ✘",
        pebble="✔ · ✘",
        loky="✔ · ✘",
    ),
    Feature(
        "a call that runs can be stopped",
        test="end_to_end/test_cancelling.py",
        to_process="`cancellable`, kills",
        trio_parallel="`kill_on_cancel`, kills",
        executor="✘",
        pebble="`timeout`, or its future's `cancel`; kills",
        loky="`kill_workers`, all of them",
    ),
    Feature("… and the model stays loaded", test="end_to_end/test_cancelling.py"),
    Feature("a generator's items as they come, to a reader who may leave", test="end_to_end/test_streaming.py"),
    Feature("one worker for a conversation, whose model keeps in mind what was said", test="end_to_end/test_leases.py"),
    Feature("calls that wait run together, as a batch", test="end_to_end/test_batching.py"),
    Feature("a crash is an error for its call, and the pool works on", fault="self_sigkill"),
    Feature("one of forty calls crashes: 39 answers", fault="one_dies_others_live"),
    Feature("a model that cannot be built says why", fault="init_raises"),
    Feature("an exception with a two-argument constructor harms nobody", fault="exc_two_arg_ctor"),
    Feature("what the model prints does no harm", fault="prints"),
    Feature("a script needs no `__main__` guard", fault="no_main_guard"),
    Feature("nobody outlives a killed program, in a call", fault="parent_sigkill_sleeping"),
    Feature("a line of waiting calls with an end", gibbs="`max_pending`", test="hub/test_order.py"),
    Feature(
        "workers can be renewed after so many calls",
        gibbs="`recycle`, with no wait",
        test="hub/test_staffing.py",
        trio_parallel="`retire`",
        executor="`max_tasks_per_child`",
        pebble="`max_tasks`",
    ),
    Feature(
        "processes come and go with the load",
        gibbs="`gibbs.Elastic`",
        test="hub/test_staffing.py",
        to_process="✔",
        trio_parallel="`idle_timeout`",
        executor="✘",
        pebble="✘",
        loky="`timeout`",
    ),
    Feature("another model takes over, and no call fails for it", gibbs="`reload`", test="end_to_end/test_living.py"),
    Feature("workers on other machines", gibbs="ssh, commands, Ray", test="contract/test_launchers.py"),
    Feature("any function may be asked for", gibbs="✘: one model", to_process="✔", trio_parallel="✔", executor="✔", pebble="✔", loky="✔"),
    Feature(
        "starts by `fork`: in milliseconds, and shares memory",
        gibbs="`gibbs.ForkLauncher`",
        test="end_to_end/test_forking.py",
        executor="`mp_context`",
        pebble="`context`",
    ),
    Feature("Windows", gibbs="✘, in words", to_process="✔", trio_parallel="✔", executor="✔", pebble="✔", loky="✔"),
]  # fmt: skip
