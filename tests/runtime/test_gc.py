"""What a killed run left is found and removed, by `ramure gc` and by the next run's start, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ramure import agent_process, current_runtime
from ramure.cli.main import main as cli
from ramure.runtime.log.files import entries
from ramure.runtime.run import run
from ramure.runtime.run.gc import Leftover
from ramure.runtime.run.lease import Lease, leases
from ramure.testing.leaks import LeakCheck
from tests.conftest import ROOT
from tests.subprocesses import started

PROGRAM = """
import asyncio
from ramure import LocalImage, agent, agent_process, current_runtime, machine, wait
from ramure.testing import InProcessHarness, ToolCall

harness = InProcessHarness([[ToolCall("hold")]])

@agent_process
async def main():
    one = await machine()
    await one.exec("echo work > file; setsid nohup sleep 600 >/dev/null 2>&1 &")
    snapshot = await (await one.machine()).snapshot()
    tree = await machine(LocalImage(workdir="repository", worktree=True))
    await tree.exec("echo precious $RAMURE_RUN_ID > result")
    worker = await agent("worker", image=harness.image)

    @worker.on("hold")
    async def hold() -> str:
        \"\"\"Holds.\"\"\"
        reapers = [(await each.machine()).reaper._process.pid for each in (one, tree)]
        print("run", current_runtime().execution_id, *reapers, flush=True)
        await asyncio.Event().wait()

    await worker.send("Hold.")
    await wait()

asyncio.run(main())
"""


@pytest.fixture
def home(leak_check: LeakCheck) -> Path:
    return leak_check.home


@pytest.fixture
def repository(leak_check: LeakCheck) -> Path:
    path = leak_check.directory / "repository"
    for command in (
        ["init", "--quiet", str(path)],
        ["-C", str(path), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    return path


@contextlib.asynccontextmanager
async def program(leak_check: LeakCheck) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, list[int]]]:
    """The program, when its tool runs; its run's id, and its reapers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"cwd": leak_check.directory, "env": environment, "stdout": subprocess.PIPE}
    async with started(sys.executable, "-c", PROGRAM, **options) as process:
        assert process.stdout is not None
        words = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().split()
        yield process, words[1], [int(word) for word in words[2:]]


def gc(*options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["gc", "--json", *options])
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.output)["found"]
    return found


def kinds(found: list[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in found}


@contextlib.contextmanager
def look_alikes(leak_check: LeakCheck, run_id: str) -> Iterator[None]:
    """Things named almost as the run's are, at the end of which all must still be there."""
    longer, shorter = f"{run_id}0", run_id[:-1]
    directories = [leak_check.temporary / f"ramure-{name}-12345678-x" for name in (longer, shorter)]
    directories += [leak_check.temporary / f"{run_id}-x", leak_check.temporary / f"not-ramure-{run_id}-x"]
    for directory in directories:
        (directory / "inside").mkdir(parents=True)
    sleepers = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, **environment})
        for environment in ({"RAMURE_RUN_ID": longer}, {"RAMURE_RUN_ID": shorter}, {"OTHER": f"RAMURE_RUN_ID={run_id}"})
    ]
    try:
        yield
        assert all((directory / "inside").is_dir() for directory in directories)
        assert all(sleeper.poll() is None for sleeper in sleepers)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
        for directory in directories:
            (directory / "inside").rmdir()
            directory.rmdir()


async def test_gc_removes_what_a_killed_run_left_and_nothing_else(
    leak_check: LeakCheck, home: Path, repository: Path
) -> None:
    async with program(leak_check) as (alive, alive_id, _), program(leak_check) as (process, run_id, reapers):
        with look_alikes(leak_check, run_id):
            # The program and its reapers at once, as the kernel's memory killer may: nobody is left to clean up.
            for pid in (*reapers, process.pid):
                os.kill(pid, signal.SIGKILL)
            await process.wait()
            assert any((home / "logs" / run_id).glob(".reserve.*"))
            foreseen = await asyncio.to_thread(gc, "--dry-run")
            assert kinds(foreseen) >= {"directory", "log", "lease"}
            assert {each["run"] for each in foreseen} == {run_id}
            found = await asyncio.to_thread(gc)
            assert {each["what"] for each in found} >= {each["what"] for each in foreseen if each["kind"] != "process"}
            assert await asyncio.to_thread(gc) == []
        assert list((home / "logs" / run_id).rglob("*reserve*")) == []
        assert alive.returncode is None
        assert [lease.execution_id for _, lease in leases(home / "runtimes")[0]] == [alive_id]
        left = [str(path) for path in leak_check.temporary.rglob(f"*{run_id}*")]
        assert left == []
        assert any(leak_check.temporary.rglob(f"ramure-{alive_id}-*"))
    await asyncio.to_thread(gc)
    # The work in a git worktree is kept on its branch.
    branches = subprocess.run(
        ["git", "-C", str(repository), "grep", "-h", "precious", *_branches(repository)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert branches.stdout.count("precious") == 2
    unknown = [entry for entry in entries(home / "logs" / run_id / "worker.jsonl") if entry["type"] == "tool_unknown"]
    assert [entry["data"]["name"] for entry in unknown] == ["hold"]
    seqs = [entry["seq"] for entry in entries(home / "logs" / run_id / "worker.jsonl")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [entry["type"] for entry in entries(home / "logs" / run_id / "_runtime.jsonl")][-1] == "run_died"


def _branches(repository: Path) -> list[str]:
    command = ["git", "-C", str(repository), "for-each-ref", "--format=%(refname)", "refs/heads/ramure"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


async def test_the_next_run_removes_it_too(leak_check: LeakCheck, home: Path, repository: Path) -> None:
    async with program(leak_check) as (process, run_id, reapers):
        for pid in (*reapers, process.pid):
            os.kill(pid, signal.SIGKILL)
        await process.wait()

    @agent_process
    async def main() -> set[str]:
        def removed() -> list[dict[str, Any]]:
            return [entry for entry in entries(current_runtime().paths.run_log) if entry["type"] == "removed"]

        async with asyncio.timeout(60):
            while "lease" not in kinds(removed()):
                await asyncio.sleep(0.02)
        return {entry["run"] for entry in removed()}

    assert await main() == {run_id}
    assert not list((home / "runtimes").iterdir())


def problems(home: Path) -> list[str]:
    [log] = home.glob("logs/*/_runtime.jsonl")
    return [entry["text"] for entry in entries(log) if entry["type"] == "problem"]


@agent_process
async def quick() -> str:
    return "the result"


async def test_whatever_the_removal_raises_is_told_and_costs_the_run_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(runtimes: Path) -> list[Leftover]:
        raise ValueError("nobody has thought of it")

    monkeypatch.setattr(run, "sweep", broken)
    assert await quick() == "the result"
    assert problems(home) == ["what killed runs have left could not be removed: ValueError: nobody has thought of it"]


def test_neither_a_run_nor_its_program_waits_for_a_removal_that_hangs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, ended = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hangs(runtimes: Path) -> list[Leftover]:
        threads.append(threading.current_thread())
        go.wait(60)
        ended.set()
        return []

    monkeypatch.setattr(run, "sweep", hangs)
    try:
        assert asyncio.run(quick()) == "the result"  # which waits for the threads of the loop's own, too
        assert not ended.is_set()
        assert [thread.daemon for thread in threads] == [True]
        assert [text.partition(":")[0] for text in problems(home)] == [
            "removing what killed runs have left takes longer than this run"
        ]
    finally:
        go.set()
        for thread in threads:
            thread.join(60)
    assert ended.is_set()  # the loop that is closed did not make it fail


async def test_a_run_that_ends_in_order_leaves_nothing_for_gc(home: Path) -> None:
    seen: list[Lease] = []

    @agent_process
    async def main() -> None:
        seen.extend(lease for _, lease in leases(home / "runtimes")[0])

    await main()
    assert [lease.pid for lease in seen] == [os.getpid()]
    assert await asyncio.to_thread(gc) == []
    assert not list((home / "runtimes").iterdir())


BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
HOST = socket.gethostname()
NAMESPACE = os.readlink("/proc/self/ns/pid")


def write_lease(home: Path, name: str, **change: Any) -> None:
    """The lease of a run whose process is this one's number, but another process; ``change``: of its program."""
    here = {"lock": "", "pid": os.getpid(), "started": "1", "boot": BOOT, "namespace": NAMESPACE, "host": HOST}
    runtimes = home / "runtimes"
    lease = dict.fromkeys(("logs", "scratch", "temporary"), f"/there/is/nothing/{name}")
    lease |= {"execution_id": name, "socket": str(runtimes / f"{name}.sock"), "scratch_identity": None}
    (runtimes / f"{name}.json").write_text(json.dumps({**lease, "program": {**here, **change}}))


def test_a_lease_of_another_host_or_an_older_boot_is_told_apart(home: Path) -> None:
    runtimes = home / "runtimes"
    runtimes.mkdir()
    changes = {
        "far": {"host": "elsewhere", "boot": "another"},
        "namespace": {"namespace": "pid:[1]"},  # and no lock: only there can it be told
        "old": {"boot": "before"},
        "reused": {},
        "renamed": {"host": "elsewhere"},  # of this boot, so of this host, whatever it is called now
    }
    for name, change in changes.items():
        write_lease(home, name, **change)
    assert {each["run"] for each in gc()} == {"old", "reused", "renamed"}
    assert sorted(path.name for path in runtimes.iterdir()) == ["far.json", "namespace.json"]
