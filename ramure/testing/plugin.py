"""Fixtures for pytest, there wherever ramure is installed (entry point ``pytest11``).

Loading this module imports nothing but pytest; what a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramure.testing.blocking import BlockingCall
    from ramure.testing.leaks import LeakCheck

__all__ = ["leak_check", "no_blocking_calls", "pytest_addoption", "pytest_configure"]

SEED: Final = "RAMURE_SEED"
SEEDS: Final = "RAMURE_SEEDS"
"""The environment variables by which ``simulate`` gets what the options say (``ramure.testing.simulation.api``)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of simulated tests."""
    group = parser.getgroup("ramure", "simulated runs of programs with agents")
    group.addoption("--ramure-seed", metavar="SEED", help="run simulate() with this seed alone, such as 0x5EED")
    group.addoption(
        "--ramure-seeds", metavar="N", type=int, help="run simulate() with so many seeds, whatever the test says"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options on, to the processes of xdist too."""
    for option, variable in (("--ramure-seed", SEED), ("--ramure-seeds", SEEDS)):
        value = config.getoption(option)
        if value is None:
            continue
        try:
            os.environ[variable] = str(int(str(value), 0))
        except ValueError:
            raise pytest.UsageError(f"{option} {value}: give a number, such as 24301 or 0x5eed") from None
        config.add_cleanup(functools.partial(_unset, variable))


def _unset(variable: str) -> None:
    os.environ.pop(variable, None)


@pytest.fixture
def no_blocking_calls() -> Iterator[list[BlockingCall]]:
    """Fails the test if it made a blocking call on an event loop; gives the list of those made so far."""
    from ramure.testing.blocking import detect_blocking_calls

    with detect_blocking_calls() as calls:
        yield calls
    if calls:
        pytest.fail("\n".join(str(call) for call in calls), pytrace=False)


@pytest.fixture
def leak_check(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeakCheck]:
    """Fails the test if a process, tmux server or session, socket or temporary file of its run is left after it.

    The test gets a home and a temporary directory of its own, and everything it starts inherits its mark. What is
    left is ended, so that it disturbs no later test.
    """
    from ramure.testing.leaks import clean_up, new_run

    tmp_path_factory.getbasetemp()  # pytest's own, made on first use: not within the run, which would see and remove it
    with new_run() as run:
        for name, value in run.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", str(run.temporary))
        yield run
        # All of it at once, last first: a variable that the test had set itself would else get back the run's value.
        monkeypatch.undo()
        leaks = run.wait_until_clean()
        clean_up(leaks)
        if leaks:
            lines = "\n".join(f"  {leak}" for leak in leaks)
            pytest.fail(f"left behind by run {run.mark}:\n{lines}", pytrace=False)
