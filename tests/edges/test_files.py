"""What is on disk is input: no lease and no log, whatever is in it or in its place, stops what reads it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ramure.cli.main import main as cli
from ramure.runtime.run.gc import sweep
from ramure.runtime.run.paths import Home as RunsHome
from tests.edges.files_fuzz import Home
from tests.scale import SOAK, examples, long_in_a_soak

COMMANDS = (
    ("ls", "--all"),
    ("ls", "--all", "--json"),
    ("logs",),
    ("logs", "--json"),
    ("logs", "--raw"),
    ("logs", "worker"),
    ("why", "worker"),
    ("why", "main", "--json", "--traces"),
    ("gc", "--dry-run"),
    ("status",),
    ("gc", "--json"),
    ("gc",),
)
SECONDS = 20


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A home, a temporary directory, and an engine of containers that does nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "docker").write_text("#!/bin/sh\nexit 0\n")
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))

    def hangs(number: int, frame: Any) -> None:
        raise AssertionError(f"it hangs:\n{''.join(traceback.format_stack(frame)[-6:])}")

    before = signal.signal(signal.SIGALRM, hangs)
    yield tmp_path / "home", tmp_path / "tmp"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def complaint(arguments: tuple[str, ...]) -> str:
    """What is wrong with how a command ended; "" for nothing."""
    signal.alarm(SECONDS)
    try:
        done = CliRunner().invoke(cli, arguments)
    finally:
        signal.alarm(0)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{arguments}: {''.join(traceback.format_exception(done.exception))}"
    if done.exit_code not in (0, 1, 3, 4):
        return f"{arguments}: exit status {done.exit_code}: {done.output}"
    if "--json" in arguments and arguments[0] in ("ls", "gc"):
        json.loads(done.stdout)
    return ""


@pytest.mark.timeout(0 if SOAK else 300, method="thread")
@long_in_a_soak
def test_no_mutated_file_stops_what_reads_it(places: tuple[Path, Path]) -> None:
    home, temporary = places
    wanted, mutated, number = examples(20_000) if SOAK else 300, 0, 0
    first = int(time.time()) if SOAK else 0
    while mutated < wanted:
        seed = first + number
        number += 1
        temporary.mkdir()
        made = Home(home, temporary, random.Random(seed))
        mutated += made.write()
        found = [said for arguments in COMMANDS if (said := complaint(arguments))]
        assert not found, f"seed {seed}: {found[0]}"
        signal.alarm(SECONDS)
        sweep(home / "runtimes")  # as the next run does
        paths = RunsHome.find().run_paths("the-next-run")
        paths.release()
        signal.alarm(0)
        made.clean()
        for path in [*temporary.iterdir()]:
            path.rmdir()  # what was kept is empty: nothing else was made there
        temporary.rmdir()
    print(f"{mutated} mutated files in {number} homes")
