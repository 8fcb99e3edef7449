"""A run lives while its program holds a lock; its private directory is kept from others, and made again."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramure import agent_process, current_runtime, machine
from ramure.life import Program, hold
from ramure.runtime.run.gc import sweep
from ramure.testing.leaks import LeakCheck
from tests.conftest import ROOT
from tests.subprocesses import started

LIVES = """
    import asyncio, os, sys
    from ramure import agent_process, current_runtime, machine

    @agent_process
    async def main():
        made = await machine()
        print(current_runtime().execution_id, (await made.machine()).workdir, flush=True)
        sys.stdin.readline()
        return (await made.exec("pwd")).stdout

    print(asyncio.run(main()), end="", flush=True)
"""

IN_ANOTHER = [["unshare", "--fork", "--pid", "--mount-proc"], ["unshare", "--fork", "--pid"]]


def can(command: list[str]) -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*command, "true"], check=False).returncode == 0


@pytest.mark.parametrize("inside", [each for each in IN_ANOTHER if os.geteuid() == 0 and can(each)], ids=" ".join)
async def test_a_program_in_another_pid_namespace_with_the_same_home_is_not_buried(
    inside: list[str], leak_check: LeakCheck
) -> None:
    """Nor does it bury what runs here, though there is no such process there."""
    command = [sys.executable, "-c", textwrap.dedent(LIVES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment}
    async with started(*inside, *command, **pipes) as first, started(*command, **pipes) as second:
        lines = [await asyncio.wait_for(program.stdout.readline(), 60) for program in (first, second) if program.stdout]
        gc = [sys.executable, "-m", "ramure.cli", "gc"]
        for prefix in (inside, []):
            argv = [*prefix, *gc]
            swept = await asyncio.to_thread(subprocess.run, argv, env=environment, capture_output=True, text=True)
            assert swept.stdout == "nothing is left of killed runs\n", swept.stdout + swept.stderr
        for program, line in zip((first, second), lines, strict=True):
            run, workdir = line.decode().split()
            assert (leak_check.home / "runtimes" / f"{run}.sock").is_socket()
            said, _ = await asyncio.wait_for(program.communicate(b"\n"), 60)
            assert said.decode() == f"{workdir}\n"


def _sleeps(ready: str) -> None:
    Path(ready).touch()
    signal.pause()


FORKS = """
    import asyncio, multiprocessing, os, signal, sys
    from ramure import agent_process, current_runtime, machine
    from tests.runtime.test_lives import _sleeps

    @agent_process
    async def main():
        await machine()
        child = multiprocessing.get_context("fork").Process(target=_sleeps, args=(sys.argv[1],))
        child.start()
        while not os.path.exists(sys.argv[1]):
            await asyncio.sleep(0.01)
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


async def test_a_child_that_was_forked_does_not_keep_a_killed_run(leak_check: LeakCheck, tmp_path: Path) -> None:
    """It has inherited every descriptor, and with them each flock; but no lock of the run's."""
    command = [sys.executable, "-c", textwrap.dedent(FORKS), str(tmp_path / "ready")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        program = await asyncio.to_thread(
            subprocess.run, command, stdout=said, env=environment, check=False, timeout=40
        )
        assert program.returncode == -signal.SIGKILL
        said.seek(0)
        child = int(said.read())
    try:
        assert Path(f"/proc/{child}").exists()
        found = await asyncio.to_thread(sweep, leak_check.home / "runtimes", wait=True)
        assert {each.kind for each in found if each.error is None} >= {"lease"}
        assert not list((leak_check.home / "runtimes").iterdir())
    finally:
        os.kill(child, signal.SIGKILL)


async def test_nothing_that_the_program_opens_and_closes_itself_makes_it_dead(leak_check: LeakCheck) -> None:
    """Closing any descriptor of a file lets go of a POSIX lock: a sweep in the program itself, a backup of the home."""

    @agent_process
    async def main() -> str:
        made = await machine()
        home = leak_check.home
        for path in [*home.rglob("*")]:
            if path.is_file():
                await asyncio.to_thread(path.read_bytes)
        assert await asyncio.to_thread(sweep, home / "runtimes", wait=True) == []
        gc = [sys.executable, "-m", "ramure.cli", "gc"]
        said = await asyncio.to_thread(subprocess.run, gc, capture_output=True, text=True, check=False)
        assert said.stdout == "nothing is left of killed runs\n"
        return (await made.exec("pwd")).stdout

    assert await main()


def test_a_program_is_dead_when_its_lock_is_free_and_alive_when_it_is_held(tmp_path: Path) -> None:
    life = hold(tmp_path)
    mine = life.program
    assert mine.state(tmp_path) == "alive"
    elsewhere = Program.read({**mine.as_dict(), "namespace": "pid:[1]", "host": "elsewhere", "pid": 1})
    assert elsewhere.state(tmp_path) == "alive"  # by its lock alone
    far = Program.read({**elsewhere.as_dict(), "boot": "another"})
    assert far.state(tmp_path) == "alive"
    life.drop()
    assert not list((tmp_path / "programs").iterdir())
    assert mine.state(tmp_path) == "alive"  # the file is gone, and the process is there
    assert elsewhere.state(tmp_path) == "unknown"
    assert far.state(tmp_path) == "unknown"
    (tmp_path / "programs" / mine.lock).touch(mode=0o600)  # free, as after kill -9
    assert elsewhere.state(tmp_path) == "dead"
    assert far.state(tmp_path) == "unknown"  # a home that two hosts share, perhaps without locks
    assert Program.read({**mine.as_dict(), "boot": "before"}).state(tmp_path) == "dead"


# -- the private directory --------------------------------------------------------------------------------------------


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for sockets, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("what", ["a link", "another user's", "a file"])
async def test_who_makes_our_directory_first_does_not_block_a_run(
    what: str, sockets: Path, leak_check: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = sockets / f"ramure-{os.getuid()}"
    if what == "a link":
        (sockets / "elsewhere").mkdir()
        theirs.symlink_to(sockets / "elsewhere")
    elif what == "a file":
        theirs.touch()
    elif os.geteuid() == 0:
        theirs.mkdir(mode=0o777)
        os.chown(theirs, 1234, 1234)
    else:
        theirs.touch()

    @agent_process
    async def main() -> Path:
        scratch = current_runtime().paths.scratch
        assert scratch.parent == sockets
        assert (scratch.stat().st_mode & 0o777, scratch.stat().st_uid) == (0o700, os.geteuid())
        return scratch

    with caplog.at_level(logging.WARNING):
        scratch = await main()
    assert not scratch.exists()
    assert f"{theirs} " in caplog.text
    assert str(scratch) in caplog.text


async def test_a_private_directory_that_a_cleaner_removes_is_made_again(sockets: Path, leak_check: LeakCheck) -> None:
    @agent_process
    async def main() -> Path:
        paths = current_runtime().paths
        services = current_runtime().services
        before = paths.scratch.stat().st_ino
        shutil.rmtree(sockets / f"ramure-{os.getuid()}")
        assert services.scratch.is_dir()
        assert paths.private.identity is not None
        assert (paths.scratch.stat().st_ino, before) != (before, 0)
        descriptor = os.open(paths.scratch, os.O_RDONLY)
        try:  # systemd-tmpfiles leaves alone what is locked
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return paths.scratch

    assert not (await main()).exists()
    assert multiprocessing.active_children() == []
