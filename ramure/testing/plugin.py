"""Fixtures for pytest, there wherever ramure is installed (entry point ``pytest11``).

Loading this module imports nothing but pytest; what a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ramure.testing.blocking import BlockingCall
    from ramure.testing.harness import InProcessHarness
    from ramure.testing.leaks import LeakCheck
    from ramure.testing.scripted_model import ScriptedModel
    from ramure.testing.scripts import Script

__all__ = [
    "harness",
    "leak_check",
    "no_blocking_calls",
    "pytest_addoption",
    "pytest_configure",
    "pytest_runtest_makereport",
    "ramure_home",
    "scripted_model",
    "virtual",
]

STORY_LINES: Final = 12
"""Lines that a failed test shows of each run in its home."""

_failed: Final = pytest.StashKey[bool]()
"""Whether the test's call has failed."""

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test with a home of its own shows the stories of the runs in it."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_failed] = True
        home = getattr(item, "funcargs", {}).get("ramure_home")
        if isinstance(home, Path):
            report.sections.extend(_stories(home))
    return report


def _stories(home: Path) -> Iterator[tuple[str, str]]:
    """A title and the last lines of the story of each run in this home."""
    import subprocess
    import sys

    for logs in sorted((home / "logs").glob("*")):
        command = [sys.executable, "-m", "ramure.cli", "logs", "--id", logs.name, "-n", str(STORY_LINES)]
        said = subprocess.run(
            command,
            env={**os.environ, "RAMURE_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        yield f"run {logs.name}, whose logs are in {logs}", said.stdout or said.stderr


@pytest.fixture
def ramure_home(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A home (``RAMURE_HOME``) for the runs of this test alone. If the test fails, the story of each run is shown, and the
    logs are kept; else nothing is left."""
    home = tmp_path_factory.mktemp("ramure_home")
    monkeypatch.setenv("RAMURE_HOME", str(home))
    yield home
    if not request.node.stash.get(_failed, False):
        import shutil

        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def virtual() -> Callable[..., Any]:
    """:func:`~ramure.testing.run_virtual`: ``virtual(main(), seed=4)`` runs a coroutine in virtual time."""
    from ramure.testing.virtual import run_virtual

    return run_virtual


@pytest.fixture
def harness() -> Iterator[Callable[..., InProcessHarness]]:
    """Makes an :class:`~ramure.testing.InProcessHarness` from a script: ``harness(script)``. The test fails if a request had no
    answer in its script."""
    from ramure.testing.harness import InProcessHarness

    made: list[InProcessHarness] = []

    def make(script: Script, **options: Any) -> InProcessHarness:
        made.append(InProcessHarness(script, **options))
        return made[-1]

    yield make
    for each in made:
        each.check()


@pytest.fixture
def scripted_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ScriptedModel]]:
    """Serves a :class:`~ramure.testing.ScriptedModel` until the test ends, and has every pi that the test starts talk to it:
    ``scripted_model(script)``. The test fails if a request had no answer in its script."""
    from contextlib import ExitStack

    from ramure.testing.scripted_model import ScriptedModel

    with ExitStack() as serving:

        def serve(script: Script, **options: Any) -> ScriptedModel:
            model = ScriptedModel(script, **options)
            serving.enter_context(model.serve_in_thread())
            for name, value in model.write_config(tmp_path_factory.mktemp("agent")).items():
                monkeypatch.setenv(name, value)
            return model

        yield serve


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
