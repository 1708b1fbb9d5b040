"""Small promises of the contract that need neither a loop nor a process."""

from __future__ import annotations

import signal
import sys

import pytest

import gibbs
from gibbs._calls import Calls, Endpoint, Lease
from gibbs._options import CallOptions


def test_an_endpoint_has_using_and_the_verbs_but_no_method():
    endpoint = Calls(object(), CallOptions()).method("embed")
    assert {name for name in dir(endpoint) if not name.startswith("_")} == {
        "map",
        "request",
        "stream",
        "track",
        "using",
    }
    assert type(endpoint.using(on_cancel="kill")) is Endpoint


def test_a_lease_has_all_verbs_and_says_which_worker_it_is():
    verbs = {name for name in dir(Calls) if not name.startswith("_")}
    assert {name for name in dir(Lease) if not name.startswith("_")} == {*verbs, "seat", "incarnation"}


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="real-time signals are Linux's")
def test_hub_and_worker_mean_the_same_signal_by_an_interrupt():
    from gibbs._launch import watch_linux
    from gibbs._worker import interrupt

    assert watch_linux.INTERRUPT == interrupt.SIGNAL == signal.SIGRTMIN + 5


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="real-time signals are Linux's")
def test_hub_and_worker_mean_the_same_by_the_question_where_it_is():
    from gibbs._launch import inquiry, watch_linux
    from gibbs._worker import stacks

    assert watch_linux.WHERE == stacks.SIGNAL == signal.SIGRTMIN + 6
    assert stacks.stack_of(sys._getframe()).startswith(inquiry.BY_ITSELF)


@pytest.mark.parametrize("env", [5, "A=B", [("A", "B")]], ids=repr)
def test_an_environment_that_is_no_mapping_is_refused(env):
    with pytest.raises(TypeError, match="env must be a mapping") as caught:
        gibbs.LocalLauncher(env=env)
    assert repr(env) in str(caught.value)


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"": "c"}, {"A": "b\0c"}, {"A\0": "b"}], ids=repr)
def test_an_environment_that_no_process_can_be_given_is_refused(env):
    [(name, value)] = env.items()
    with pytest.raises(ValueError, match="env must map names") as caught:
        gibbs.LocalLauncher(env=env)
    assert repr(name) in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("number", [True, "3", float("nan"), float("-inf"), -1])
def test_a_policy_says_the_value_that_it_refuses(number):
    for name in ("max_failures", "max_crashes", "period"):
        with pytest.raises((TypeError, ValueError)) as caught:
            gibbs.RestartPolicy(**{name: number})
        assert name in str(caught.value)
        assert repr(number) in str(caught.value)
