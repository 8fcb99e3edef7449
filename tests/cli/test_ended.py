"""``status``, ``why`` and ``logs`` of runs that have ended, and of those whose program was killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ramure.cli.commands.why import cropped
from tests.cli.live import Shell, live_run

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("ended") / "home")


@pytest.fixture(scope="module")
def ended(shell: Shell) -> str:
    """A run whose worker has said something, and that was cancelled."""
    with live_run(shell, "worker", "other") as run:
        shell("send", "worker", "Write it down.")
        while "Done." not in shell("logs", "worker").out:
            time.sleep(0.1)
        assert shell("stop").code == 0
    return run


@pytest.fixture(scope="module")
def killed(shell: Shell, ended: str) -> str:
    with live_run(shell, "worker") as run:
        os.kill(shell("status", "--json").json["pid"], signal.SIGKILL)
    return run


def test_status_of_a_run_that_has_ended(shell: Shell, ended: str) -> None:
    said = shell("status", ended[:5])
    assert (said.code, said.err) == (0, "")
    first, *rest = said.out.splitlines()
    assert first.startswith(f"{ended}  main cancelled after ")
    assert "AGENT   DID LAST     RESTARTS  TOKENS    COST" in rest
    assert [line.split()[:3] for line in rest if line.startswith("worker")] == [["worker", "said:", "Done."]]
    assert "main#1/pool#2  cancelled  shutdown" in rest
    assert rest[-1] == f"next: ramure why --id {ended[:-7]} · ramure logs --id {ended[:-7]}"
    document = shell("status", ended, "--json").json
    assert (document["outcome"], document["reason"]) == ("cancelled", "shutdown")
    assert {agent["state"] for agent in document["agents"]} == {"ended"}
    assert document["connections"] == [{"one": "worker", "other": "other", "direction": "forward"}]


def test_why_of_a_run_that_has_ended_and_of_what_was_in_it(shell: Shell, ended: str) -> None:
    def first(*words: str) -> str:
        said = shell("why", *words, "--id", ended)
        assert said.code == 0
        return said.out.splitlines()[0]

    assert first() == "the run was cancelled: shutdown"
    assert first("pool") == "pool was cancelled: shutdown"
    assert first("worker") == "worker has not died, and nothing has gone wrong; its run was cancelled: shutdown"


def test_of_a_run_whose_program_was_killed(shell: Shell, killed: str) -> None:
    cause = "its program was killed, or its host went down"
    for _ in range(2):  # before somebody has found it dead, and after
        said = shell("status")
        assert said.err == f"ramure: {killed}, the last that ended\n"
        assert " died after " in said.out.splitlines()[0]
        assert shell("status", "--json").json["outcome"] == "died"
        assert shell("why").out.splitlines()[0] == f"the run died: {cause}"
        assert shell("why", "worker", "--json").json["headline"] == f"worker died with its run: {cause}"
        assert shell("gc").code == 0


def test_where_there_was_never_a_run_nothing_is_told(tmp_path: Path) -> None:
    for command in ("status", "why", "logs"):
        said = Shell(tmp_path)(command)
        assert (said.code, said.out, said.err.count("\n")) == (3, "", 1)


def test_of_a_screen_is_shown_what_stands_on_it() -> None:
    assert cropped("\n\n  one   \n\n\n    two\n   \n\n") == ["one", "", "  two"]
    assert cropped("   \n\n") == []


def old(shell: Shell, run: str, days: float) -> Path:
    """The run's logs, as if it had ended so many days ago."""
    logs = shell.home / "logs" / run
    then = time.time() - days * 86400
    os.utime(logs / "_runtime.jsonl", (then, then))
    return logs


def test_gc_removes_the_logs_of_runs_that_ended_long_ago(shell: Shell) -> None:
    runs = []
    for _ in range(3):
        with live_run(shell, "worker") as run:
            runs.append(run)
    ancient, odd, young = old(shell, runs[0], 40), old(shell, runs[1], 40), old(shell, runs[2], 20)
    (odd / "notes.txt").write_text("mine")
    with live_run(shell, "worker") as live:
        at_work = old(shell, live, 50)
        dry = shell("gc", "--logs", "--older-than", "30d", "--dry-run").out
        assert ancient.exists()
        said = shell("gc", "--logs", "--older-than", "30d")
        assert said.out == dry
        assert at_work.exists()
    assert said.code == 1
    assert f"{runs[0]}: log {ancient} (0.0 MB)\n" in said.out
    assert f"{runs[1]}: log {odd}: not removed: notes.txt in it is none of ramure's;" in said.out
    assert (ancient.exists(), (odd / "worker.jsonl").exists(), young.exists()) == (False, True, True)
    assert runs[2] not in said.out


@pytest.mark.parametrize("name", ["not a run", "-"])
def test_gc_removes_nothing_that_is_no_run_s_logs(tmp_path: Path, name: str) -> None:
    shell, logs = Shell(tmp_path), tmp_path / "logs" / name
    logs.mkdir(parents=True)
    (logs / "_runtime.jsonl").write_text('{"type": "run_started", "execution_id": "another"}\n')
    old(shell, name, 100)
    (tmp_path / "logs" / "link").symlink_to(logs)
    said = shell("gc", "--logs", "--older-than", "1d")
    assert (said.code, said.out.count("not removed")) == (1, 1)
    assert (logs / "_runtime.jsonl").exists()


def test_gc_wants_to_know_which_logs(tmp_path: Path) -> None:
    for words in (("--logs",), ("--older-than", "30d"), ("--logs", "--older-than", "soon")):
        said = Shell(tmp_path)("gc", *words)
        assert (said.code, said.err.count("\n")) == (2, 1)
