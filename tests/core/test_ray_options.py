"""What a Ray launcher is told, looked at without Ray."""

from __future__ import annotations

import re
import ssl

import pytest

from gibbs.contrib.ray import RayLauncher


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_cpus": "1"}, TypeError, "num_cpus must be a number"),
        ({"num_gpus": -1}, ValueError, "num_gpus must be 0 or more"),
        ({"memory": float("inf")}, ValueError, "memory must be 0 or more"),
        ({"resources": ["a100"]}, TypeError, "resources must be a mapping"),
        ({"resources": {"a100": True}}, TypeError, "resources['a100'] must be a number"),
        ({"runtime_env": "conda"}, TypeError, "runtime_env must be a mapping"),
        ({"env": {"A": 1}}, TypeError, "env must map strings"),
        ({"host": ""}, TypeError, "host must be an address"),
        ({"port": "80"}, TypeError, "port must be a number"),
        ({"port": []}, TypeError, "port must be a number"),
        ({"port": 1 << 16}, ValueError, "port must be from 0 to 65535"),
        ({"encrypt": "yes"}, TypeError, "encrypt must be True, False, or a pair"),
        ({"encrypt": (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), None)}, TypeError, "encrypt must be"),
        ({"keepalive": None}, TypeError, "keepalive must be a number"),
        ({"keepalive": 0}, ValueError, "keepalive must be more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        RayLauncher(**options)


def test_ray_is_told_to_restart_and_repeat_nothing():
    asked = RayLauncher()._options()
    assert (asked["max_restarts"], asked["max_task_retries"], asked["max_concurrency"]) == (0, 0, 1)


def test_what_is_asked_of_ray_is_passed_on():
    launcher = RayLauncher(
        num_gpus=0.5,
        memory=1 << 30,
        resources={"a100": 1},
        scheduling_strategy="SPREAD",
        runtime_env={"pip": ["x"], "env_vars": {"A": "1", "B": "1"}},
        env={"B": "2"},
    )
    asked = launcher._options()
    assert asked["num_gpus"] == 0.5
    assert asked["memory"] == 1 << 30
    assert asked["resources"] == {"a100": 1}
    assert asked["scheduling_strategy"] == "SPREAD"
    assert asked["runtime_env"] == {"pip": ["x"], "env_vars": {"A": "1", "B": "2"}}


def test_several_ports_may_be_named():
    assert RayLauncher(port=range(7000, 7003)).port == (7000, 7001, 7002)


def test_its_bound_on_silence_is_three_signs_of_life():
    assert RayLauncher(keepalive=2).traits.silent_loss_within == 6
