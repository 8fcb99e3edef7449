"""What all tests share: the real pi, installed once in the checkout, and how async tests run.

Async tests run by pytest-asyncio in auto mode: write ``async def test_…``, each with an event loop of its own. It was
taken over a hook of our own with ``asyncio.run`` since async fixtures then run on the same loop as the test, and over
anyio's plugin since ramure runs on asyncio only. Debug mode is off: it slows the kernel down by a factor.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import Toolchain, find_tmux, set_up
from ramure.home import private_dir
from ramure.testing.blocking import BlockingCall, detect_blocking_calls
from ramure.testing.leaks import CACHES, LeakCheck
from tests import scale

ROOT = Path(__file__).parent.parent
DEV = ROOT / ".ramure-dev"


VERSIONS = {
    "toolchain": ("newest", None, None),
    "toolchain_074": ("oldest", "0.74.2", "20"),
}
"""Fixture name: directory under ``.ramure-dev``, pi, Node."""


REAL = ("dockerd", "docker", "erl", "erlc", "pi", "ssh", "sshd", "tmux")
"""What no test of ``make quick`` may start: there, each of these is a stand-in that fails and says so."""

STAND_IN = """#!/bin/sh
echo "make quick has no real ${0##*/}: mark the test with pytest.mark.real, or real_pi" >&2
exit 97
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="leave out the tests that start pi, tmux, sshd, Docker, Erlang, or many whole programs",
    )


def pytest_configure(config: pytest.Config) -> None:
    """With ``--quick``, put stand-ins for the real programs first on the PATH."""
    if not config.option.quick:
        return
    directory = tempfile.TemporaryDirectory(prefix="ramure-test-quick-")
    for name in REAL:
        program = Path(directory.name, name)
        program.write_text(STAND_IN)
        program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join((directory.name, os.environ.get("PATH", os.defpath)))
    config.add_cleanup(directory.cleanup)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whoever asks for an installed pi needs the real one; with ``--quick``, leave out what starts real programs."""
    for item in items:
        if VERSIONS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real_pi)
        row = item.name.partition("[")[2]
        if any(each in row for each in ("ssh", "morph", "sandbox")) or item.path.parent.name in ("edges", "hostile"):
            item.add_marker(pytest.mark.real)
    if not scale.SOAK:
        _leave_out(config, items, [item for item in items if item.get_closest_marker("edges")])
    if config.option.quick:
        real = [item for item in items if item.get_closest_marker("real_pi") or item.get_closest_marker("real")]
        _leave_out(config, items, real)


def _leave_out(config: pytest.Config, items: list[pytest.Item], these: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=these)
    items[:] = [item for item in items if item not in set(these)]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what the chosen tests need before the first one runs, so that no test's timeout counts it."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if any(item.get_closest_marker("real_pi") for item in session.items):
        wanted.add("toolchain")
    with ThreadPoolExecutor() as pool:  # mostly waiting for the network
        list(pool.map(_installed, sorted(wanted & VERSIONS.keys())))


def pytest_sessionfinish() -> None:
    """Leave the container engine that tests share, if one here used it."""
    if engine := sys.modules.get("tests.machines.engine"):
        engine.leave_engine()


def _installed(fixture: str) -> Toolchain:
    name, pi, node = VERSIONS[fixture]
    harness = set_up(DEV / name, pi=pi, node=node, private=True, say=lambda line: print(line, file=sys.__stderr__))
    tmux, version = find_tmux()
    return Toolchain(harness, tmux, version)


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """The newest pi that installs, on a Node that fits it; kept under ``.ramure-dev``, so reruns are quick."""
    return _installed("toolchain")


@pytest.fixture(scope="session")
def toolchain_074() -> Toolchain:
    """The oldest pi that is supported, 0.74.2, on Node 20; kept under ``.ramure-dev``."""
    return _installed("toolchain_074")


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_loop() -> Iterator[None]:
    """Fails the test if ramure made a blocking call on an event loop. (What a test itself does there is its own affair.)"""
    with detect_blocking_calls() as calls:
        yield
    ours = [call for call in calls if _is_ours(call)]
    if ours:
        pytest.fail("\n".join(map(str, ours)), pytrace=False)


def _is_ours(call: BlockingCall) -> bool:
    """Whether, of ramure's code and that of the tests, ramure's is nearer to the call."""
    for file in reversed(re.findall(r'^  File "([^"]+)"', call.stack, re.MULTILINE)):
        if file.startswith(f"{ROOT}/"):
            return file.startswith(f"{ROOT}/ramure/")
    return False


@pytest.fixture
def ramure_home(toolchain: Toolchain, leak_check: LeakCheck) -> Path:
    """The test's own ``RAMURE_HOME``, with the newest pi set up in it; what is left of the run fails the test."""
    lend_toolchain(toolchain, leak_check.home)
    return leak_check.home


@pytest.fixture
def leak_check(leak_check: LeakCheck) -> LeakCheck:
    """As ramure's own, with Node's caches shared."""
    share_caches(leak_check)
    return leak_check


def share_caches(run: LeakCheck) -> None:
    """Let every run use what Node has compiled for others: a start of pi without it takes a second and a half longer."""
    for name in CACHES:
        shared, own = private_dir(DEV / "caches") / name, run.temporary / name
        shared.mkdir(exist_ok=True)
        if not own.exists():
            own.symlink_to(shared)


def lend_toolchain(toolchain: Toolchain, home: Path) -> None:
    """Let ``home`` (a test's ``RAMURE_HOME``) use this toolchain, by a link to where it is installed."""
    installed = next(parent for parent in toolchain.harness.pi.parents if parent.name == "toolchain")
    link = private_dir(home) / "toolchain"
    if not link.exists():
        link.symlink_to(installed)
