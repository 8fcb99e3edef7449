"""What the end-to-end tests share: a stage (a home, a toolchain, a model), and programs as processes on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ramure.agents.pi.toolchain import Toolchain
from ramure.agents.pi.toolchain.models import PROVIDER_VARIABLES
from ramure.testing import ScriptedModel
from ramure.testing.leaks import LeakCheck
from tests.conftest import ROOT, lend_toolchain, share_caches
from tests.subprocesses import ended

START = 40.0
"""Seconds that a program has to come to where a test wants it: pi starts cold, beside other tests."""

SITE = Path(__file__).parent / "site"
"""What makes the programs say where they hang, when asked."""

AT_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes its standard input the controlling terminal, then becomes another command."""


class Program:
    """A program that runs as its own process, in a session of its own, as from a user's shell.

    With ``terminal`` it has a pseudo-terminal, and ``type`` sends it keys.
    """

    def __init__(self, process: asyncio.subprocess.Process, source: asyncio.StreamReader, master: int | None) -> None:
        self.process = process
        self.began = time.monotonic()
        self._said: list[str] = []
        self._news = asyncio.Condition()
        self._master = master
        self._reading = asyncio.create_task(self._read(source))

    async def _read(self, source: asyncio.StreamReader) -> None:
        while data := await source.read(65536):
            async with self._news:
                self._said.append(data.decode(errors="replace"))
                self._news.notify_all()
        async with self._news:
            self._said.append("")
            self._news.notify_all()

    @property
    def said(self) -> str:
        """All that it printed, on stdout and stderr."""
        return "".join(self._said)

    async def says(self, pattern: str, within: float = START) -> re.Match[str]:
        """Wait until what it printed matches; the match."""

        def found() -> bool:
            return re.search(pattern, self.said) is not None or self._reading.done() or self._said[-1:] == [""]

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(found)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} not said within {within} s, but:\n{self.said}") from None
        match = re.search(pattern, self.said)
        assert match is not None, f"ended without saying {pattern!r}:\n{self.said}"
        return match

    async def run_id(self) -> str:
        """The execution id, which the program prints as ``run <id>``."""
        return (await self.says(r"\brun ([a-z]+-[a-z]+-[0-9a-f]{6})"))[1]

    async def ends(self, within: float) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        try:
            async with asyncio.timeout(within):
                status = await self.process.wait()
                await self._reading
        except TimeoutError:
            raise AssertionError(f"{await self._hanging()} after {within} s; it said:\n{self.said}") from None
        return status

    async def _hanging(self) -> str:
        """What does not end: the program, which says then where it is, or who still has its output open."""
        if self.process.returncode is not None:
            return f"it has ended with {self.process.returncode}, but its output is still open"
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            with contextlib.suppress(ProcessLookupError):  # the first has woken it
                self.signal(number)
            await asyncio.sleep(1)
        return "still runs (it says where)"

    def signal(self, number: int) -> None:
        """Send the process (alone) a signal."""
        self.process.send_signal(number)

    def interrupt_group(self) -> None:
        """What a terminal does on Ctrl-C: SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def type(self, keys: bytes) -> None:
        """Send keys to its terminal."""
        assert self._master is not None
        os.write(self._master, keys)

    async def close(self) -> None:
        await ended(self.process)
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if self._master is not None:
            os.close(self._master)


@dataclass
class Stage:
    """Where programs run: an empty HOME, a home of ramure with a toolchain, and no provider's key."""

    toolchain: Toolchain
    run: LeakCheck
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lend_toolchain(self.toolchain, self.run.home)
        share_caches(self.run)
        for directory in (self.user, self.sockets, self.work):
            directory.mkdir(mode=0o700, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in PROVIDER_VARIABLES}
        kept |= self.run.environment
        kept |= {"HOME": str(self.user), "XDG_RUNTIME_DIR": str(self.sockets), "PYTHONPATH": f"{ROOT}:{SITE}"}
        self.environ = kept | self.environ

    @property
    def user(self) -> Path:
        """The user's HOME."""
        return self.run.directory / "user"

    @property
    def sockets(self) -> Path:
        """``XDG_RUNTIME_DIR``."""
        return self.run.directory / "x"

    @property
    def work(self) -> Path:
        """The programs' working directory."""
        return self.run.directory / "work"

    def scratch(self, run_id: str) -> Path:
        """The private directory of a run."""
        return self.sockets / f"ramure-{os.getuid()}" / run_id

    def logs(self, run_id: str) -> Path:
        """The logs of a run."""
        return self.run.home / "logs" / run_id

    def serve(self, model: ScriptedModel) -> None:
        """Make pi use ``model``."""
        self.environ |= model.write_config(self.run.directory / "agent")

    @contextlib.asynccontextmanager
    async def start(
        self, *argv: str, env: Mapping[str, str | None] | None = None, terminal: bool = False
    ) -> AsyncIterator[Program]:
        """Run a command; it is killed at the end of the block if it still runs."""
        environ = {n: v for n, v in {**self.environ, **(env or {})}.items() if v is not None}
        options: dict[str, Any] = {"cwd": self.work, "env": environ, "start_new_session": True}
        master = None
        if terminal:
            master, slave = pty.openpty()
            options |= {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": False}
            argv = (sys.executable, "-c", AT_TERMINAL, *argv)
        else:
            options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # What a shell starts in the background ignores Ctrl-C, and so would its children; the tests' own do not.
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = await asyncio.create_subprocess_exec(*argv, **options)
        source = process.stdout
        if master is not None:
            os.close(slave)
            source = await _reader(master)
        assert source is not None
        program = Program(process, source, master)
        try:
            yield program
        finally:
            await program.close()

    def python(self, source: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Program]:
        """Run a Python program."""
        file = self.work / "program.py"
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        return self.start(sys.executable, str(file), **options)

    def ramure(self, *argv: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Program]:
        """Run the ``ramure`` command."""
        return self.start(sys.executable, "-m", "ramure.cli", *argv, **options)

    def tmux(self, run_id: str, *command: str) -> str:
        """Ask a run's tmux server."""
        socket = self.scratch(run_id) / "tmux" / "server"
        argv = ["tmux", "-S", str(socket), *command]
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30).stdout

    def panes(self, run_id: str) -> list[int]:
        """The process ids of a run's pis: each leads the foreground group of its pane's terminal."""
        return [leader for leader in map(foreground, self.parents(run_id)) if leader > 0]

    def parents(self, run_id: str) -> list[int]:
        """The process ids in a run's panes: each the parent of a pi's process tree."""
        return [int(pid) for pid in self.tmux(run_id, "list-panes", "-a", "-F", "#{pane_pid}").split()]


def foreground(pid: int) -> int:
    """The foreground group of the terminal of a process; -1 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[5])
    except (FileNotFoundError, ProcessLookupError):
        return -1


def owned(run_id: str, but: Sequence[int] = ()) -> list[tuple[int, str]]:
    """(pid, command) of each live process whose environment, arguments or directory name the run."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) in (os.getpid(), *but):
            continue
        try:
            command = (directory / "cmdline").read_bytes()
            text = command + (directory / "environ").read_bytes() + os.fsencode((directory / "cwd").readlink())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        if command and run_id.encode() in text:
            found.append((int(directory.name), command.replace(b"\0", b" ").decode(errors="replace")))
    return found


async def nothing_left(stage: Stage, run_id: str) -> float:
    """Wait until there is no process, scratch file, socket or lease of the run; the seconds it took."""

    def nothing() -> bool:
        files = [*stage.run.home.glob(f"runtimes/{run_id}*"), *stage.scratch(run_id).rglob("*")]
        return not (owned(run_id) or files)

    return await until(nothing, 15, f"nothing of {run_id} is left")


async def until(condition: Callable[[], object], within: float, what: str) -> float:
    """Wait until ``condition()`` holds, looking every 20 ms; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()

    def ready() -> None:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            data = b""
        if data:
            reader.feed_data(data)
        else:
            asyncio.get_running_loop().remove_reader(descriptor)
            reader.feed_eof()

    asyncio.get_running_loop().add_reader(descriptor, ready)
    return reader
