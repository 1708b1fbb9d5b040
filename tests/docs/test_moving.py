"""A program of gibbs 0.3 is told where the page is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gibbs

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/moving.md"


def test_the_page_is_where_the_messages_say() -> None:
    assert (ROOT / PAGE).is_file()


def test_the_first_line_of_an_old_program_names_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from gibbs import Hub, Worker"], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: gibbs 0.4 has no Worker: open_hub starts and supervises the workers; see {PAGE}"
    )


@pytest.mark.parametrize("name", ["Worker", "UserCodeException"])
def test_a_name_that_is_gone_names_the_page(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no {name}: .*{PAGE}"):
        getattr(gibbs, name)
    with pytest.raises(ImportError, match=f"no {name}: .*{PAGE}"):
        exec(f"from gibbs import {name}")


def test_a_name_that_is_gone_is_not_there_for_those_who_ask() -> None:
    assert not hasattr(gibbs, "Worker")
    assert "Worker" not in dir(gibbs)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((5019,), {}), ((), {"port": 5019, "heartbeat_interval": 1})])
def test_a_hub_made_by_its_class_names_open_hub_and_the_page(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=f"open_hub.*{PAGE}"):
        gibbs.Hub(*args, **kwargs)
