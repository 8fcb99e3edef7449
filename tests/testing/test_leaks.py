"""Each kind of leak is planted, and seen; what is another run's is not."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ramure.runtime.run.marked import environment_of
from ramure.testing import leaks
from ramure.testing.leaks import LeakCheck, clean_up, find_leaks, new_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLEAN = {"PATH": os.environ["PATH"]}


@pytest.fixture
def run() -> Iterator[LeakCheck]:
    with new_run(grace=5) as run:
        yield run


@contextmanager
def sleeper(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[int]:
    """A process that sleeps, with a clean environment unless told otherwise; ended and reaped afterwards."""
    script = "import sys, time; print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, env={**CLEAN, **(env or {})}, cwd=cwd, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # it runs: its arguments and environment are its own
        yield process.pid
        process.kill()


def kinds(run: LeakCheck) -> list[str]:
    return [leak.kind for leak in find_leaks(run)]


def test_a_run_that_left_nothing_is_clean(run: LeakCheck) -> None:
    assert run.wait_until_clean() == []


def test_a_process_is_known_by_its_environment(run: LeakCheck) -> None:
    with sleeper(env={"RAMURE_RUN_ID": run.mark}) as pid:
        assert [(leak.kind, leak.pid) for leak in find_leaks(run)] == [("process", pid)]
    assert run.wait_until_clean() == []


def test_a_process_is_known_by_its_arguments(run: LeakCheck) -> None:
    with sleeper("--home", str(run.home)) as pid:
        assert [leak.pid for leak in find_leaks(run)] == [pid]


def test_a_process_is_known_by_its_working_directory(run: LeakCheck) -> None:
    with sleeper(cwd=run.temporary) as pid:
        assert [leak.pid for leak in find_leaks(run)] == [pid]


def test_a_process_is_known_by_an_execution_id_of_the_runs_home(run: LeakCheck) -> None:
    (run.home / "logs" / "e5").mkdir(parents=True)
    with sleeper("e5", env={"RAMURE_RUN_ID": "e55"}), sleeper(env={"RAMURE_RUN_ID": "e5"}) as pid:
        assert [leak.pid for leak in find_leaks(run)] == [pid]


def test_where_there_is_no_proc_ps_tells(run: LeakCheck) -> None:
    marks = (f"RAMURE_RUN_ID={run.mark}\0".encode(), b"--an-argument")
    with sleeper("--an-argument", env={"RAMURE_RUN_ID": run.mark}) as pid:
        assert [p for p, _, text in leaks._processes_of_ps() if all(mark in text for mark in marks)] == [pid]


@pytest.mark.real
def test_a_tmux_server_is_seen_and_ended(run: LeakCheck) -> None:
    path = run.temporary / "t.sock"
    subprocess.run(["tmux", "-S", str(path), "new-session", "-d", "sleep 60"], env=CLEAN, check=True, timeout=10)
    found = find_leaks(run)
    assert sorted(leak.kind for leak in found) == ["process", "socket", "tmux server"]
    clean_up(found)
    path.unlink()
    assert run.wait_until_clean() == []


@pytest.mark.real
def test_a_session_on_a_server_of_others_is_seen_and_only_it_is_ended(run: LeakCheck) -> None:
    tmux = ["tmux", "-L", f"others-{os.getpid()}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TMUX")}
    environment["TMUX_TMPDIR"] = "/tmp"

    def call(*arguments: str) -> str:
        return subprocess.run(
            [*tmux, *arguments], env=environment, check=True, timeout=10, capture_output=True, text=True
        ).stdout

    call("new-session", "-d", "-s", "theirs", "sleep 60")
    try:
        call("new-session", "-d", "-s", run.mark, "sleep 60")
        found = find_leaks(run)
        assert [leak.kind for leak in found] == ["tmux session"]
        clean_up(found)
        assert call("list-sessions", "-F", "#{session_name}").split() == ["theirs"]
    finally:
        call("kill-server")


def test_sockets_are_seen_everywhere_and_files_in_the_temporary_directory(run: LeakCheck) -> None:
    (run.home / "runtimes").mkdir()
    (run.home / "log.jsonl").write_text("a log may stay")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(run.home / "runtimes" / "x.sock"))
        assert kinds(run) == ["socket"]
    (run.home / "runtimes" / "x.sock").unlink()
    (run.temporary / "jiti").mkdir()
    (run.temporary / "jiti" / "cache.mjs").write_text("Node's")
    assert kinds(run) == []
    (run.temporary / "left").mkdir()
    assert kinds(run) == ["file"]
    (run.temporary / "left" / "a.txt").write_text("")
    (run.temporary / "b.txt").write_text("")
    assert kinds(run) == ["file", "file"]
    run.keep |= {run.temporary / "left", run.temporary / "b.txt"}
    assert kinds(run) == []


def test_another_run_at_the_same_time_is_not_disturbed(run: LeakCheck) -> None:
    with new_run() as other, sleeper(env=other.environment):
        (other.temporary / "file").write_text("")
        assert find_leaks(run) == []
        assert sorted(kinds(other)) == ["file", "process"]


def test_an_ending_that_is_under_way_is_waited_for(run: LeakCheck) -> None:
    command = ["sh", "-c", "read line; exec sleep 0.3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**CLEAN, **run.environment}) as process:
        assert kinds(run) == ["process"]
        assert process.stdin is not None
        process.stdin.close()
        assert run.wait_until_clean() == []


def test_the_fixtures_fail_a_test_that_leaves_or_blocks(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
import asyncio, subprocess, tempfile, time

def test_leaves_a_process(leak_check):
    leak_check.grace = 0.1
    subprocess.Popen(["sleep", "60"])

def test_leaves_a_file(leak_check):
    leak_check.grace = 0.1
    tempfile.mkstemp()

def test_leaves_nothing(leak_check):
    subprocess.run(["true"])
    with tempfile.TemporaryDirectory() as directory:
        assert directory.startswith(str(leak_check.temporary))

async def block():
    time.sleep(0.001)

def test_blocks(no_blocking_calls):
    asyncio.run(block())

def test_does_not_block(no_blocking_calls):
    asyncio.run(asyncio.sleep(0.001))
    time.sleep(0.001)
"""
    )
    command = [sys.executable, "-m", "pytest", "-p", "ramure.testing.plugin", "-p", "no:cacheprovider", "-rE", "-q"]
    result = subprocess.run(
        [*command, "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        check=False,
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert "5 passed, 3 errors" in result.stdout, result.stdout + result.stderr
    for line in ("ERROR test_it.py::test_leaves_a_process", "ERROR test_it.py::test_leaves_a_file"):
        assert line in result.stdout
    assert "ERROR test_it.py::test_blocks - Failed: time.sleep blocked the event loop" in result.stdout
    assert ": sleep 60" in result.stdout


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, pytest, ramure; before = set(sys.modules); import ramure.testing.plugin; print(set(sys.modules) - before)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=20)
    loaded = {name.partition(".")[0] for name in ast.literal_eval(result.stdout)}
    assert not loaded & {"asyncio", "websockets", "pykka", "libtmux", "paramiko", "subprocess", "socket"}


@pytest.fixture
def before() -> Iterator[None]:
    """The outermost fixture of its test: it sees what the others leave."""
    names = ("RAMURE_HOME", "RAMURE_RUN_ID", "TMPDIR", "TMUX_TMPDIR")
    there = [os.environ.get(name) for name in names], tempfile.tempdir
    yield
    assert ([os.environ.get(name) for name in names], tempfile.tempdir) == there


def test_a_test_that_sets_a_variable_of_the_run_itself_leaves_none_behind(
    before: None, leak_check: LeakCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", "/elsewhere")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ps says it")
def test_a_process_that_has_just_been_started_has_its_environment() -> None:
    """The kernel reports the start of a program before it has set what /proc shows of it."""
    for number in range(100):
        with subprocess.Popen(["sleep", "60"], env={"NUMBER": str(number)}) as process:
            found = environment_of(process.pid)
            process.kill()
        assert found == f"NUMBER={number}\0".encode()
