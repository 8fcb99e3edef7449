"""What a run left behind: processes, tmux servers and sessions, sockets, temporary files.

A run is known by its *mark*, a word that is in its environment and in the names of its directories, and by the
execution ids that were made in its home. Only what carries these is looked at, so that other users of the machine
and tests that run in parallel neither disturb nor are disturbed. Reads ``/proc``; where there is none (macOS), ``ps``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ramure.runtime.run.marked import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Leak", "LeakCheck", "clean_up", "find_leaks", "new_run"]

CACHES: Final = ("jiti", "node-compile-cache")
"""What Node's tools keep in the temporary directory for their next start: no leak."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing left behind. ``pid`` is None for what is no process."""

    kind: Literal["process", "tmux server", "tmux session", "socket", "file"]
    what: str
    pid: int | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.what}" if self.pid is None else f"{self.kind} {self.pid}: {self.what}"


@dataclass(slots=True)
class LeakCheck:
    """One run under watch.

    ``environment`` is what its programs are started with (the fixture sets it for the test itself): ``RAMURE_HOME``,
    ``TMPDIR``, ``TMUX_TMPDIR`` in ``directory``, and ``RAMURE_RUN_ID``, the mark. ``keep`` names files that may stay.
    ``grace`` is how many seconds endings that are under way have.
    """

    mark: str
    directory: Path
    grace: float = 5.0
    keep: set[Path] = field(default_factory=set)

    @property
    def home(self) -> Path:
        """The run's ``RAMURE_HOME``. Logs may stay in it; sockets may not."""
        return self.directory / "home"

    @property
    def temporary(self) -> Path:
        """The run's ``TMPDIR``: nothing may stay in it."""
        return self.directory / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a program part of this run."""
        return {
            "RAMURE_RUN_ID": self.mark,
            "RAMURE_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "TMUX_TMPDIR": str(self.temporary),
        }

    def carries_mark(self, text: bytes) -> bool:
        """Whether the arguments, environment or directory of a process (parts end with NUL) make it this run's."""
        if self.mark.encode() in text:
            return True
        # An execution id may be any short word, so it counts only as the whole value of its variable.
        ids = {path.name for path in self.home.glob("logs/*")} | {path.stem for path in self.home.glob("runtimes/*")}
        return any(f"RAMURE_RUN_ID={id_}\0".encode() in text for id_ in ids)

    def wait_until_clean(self) -> list[Leak]:
        """What is left when nothing is, or when ``grace`` seconds are over."""
        deadline = time.monotonic() + self.grace
        while (leaks := find_leaks(self)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return leaks


@contextmanager
def new_run(grace: float = 5.0) -> Iterator[LeakCheck]:
    """A run with directories of its own, which are removed when the block ends, leaks or not."""
    mark = f"rt{secrets.token_hex(5)}"
    directory = Path(tempfile.mkdtemp(prefix=f"{mark}-"))
    try:
        run = LeakCheck(mark, directory, grace)
        run.home.mkdir(mode=0o700)
        run.temporary.mkdir(mode=0o700)
        yield run
    finally:
        shutil.rmtree(directory)


def find_leaks(run: LeakCheck) -> list[Leak]:
    """What of the run is there now, this process itself apart."""
    processes = [
        Leak("tmux server" if _is_tmux_server(pid) else "process", command[:300], pid)
        for pid, command, text in _processes()
        if pid != os.getpid() and run.carries_mark(text)
    ]
    return [*processes, *_sessions(run, {leak.pid for leak in processes}), *_files(run)]


def clean_up(leaks: list[Leak]) -> None:
    """End what was found, by process id, so that it does not disturb what comes next."""
    for leak in leaks:
        if leak.pid is not None:
            try:
                os.kill(leak.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has just ended by itself
        elif leak.kind == "tmux session":
            socket, _, name = leak.what.rpartition(" ")
            subprocess.run(["tmux", "-S", socket, "kill-session", "-t", f"={name}"], check=False, timeout=5)


def _processes() -> Iterator[tuple[int, str, bytes]]:
    """(pid, command line, all the text that may carry a mark) of each process that may be looked at."""
    if not Path("/proc/self/environ").exists():
        yield from _processes_of_ps()
        return
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            environment = environment_of(int(directory.name))  # first: what is just becoming a program is waited for
            arguments = (directory / "cmdline").read_bytes()
            cwd = bytes((directory / "cwd").readlink())
            text = b"\0".join((arguments, environment, cwd, b""))
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        if arguments:  # a kernel thread has none, nor has one that has ended and waits to be reaped
            yield int(directory.name), arguments.replace(b"\0", b" ").decode(errors="replace").strip(), text


def _processes_of_ps() -> Iterator[tuple[int, str, bytes]]:
    # "e" shows the environment after the arguments, of this user's processes.
    command = ["ps", "axeww", "-o", "pid=,command="]
    output = subprocess.run(command, check=True, capture_output=True, timeout=10).stdout
    for line in output.splitlines():
        pid, _, text = line.strip().partition(b" ")
        if b"ps axeww" not in text:
            yield int(pid), text.decode(errors="replace"), text.replace(b" ", b"\0") + b"\0"


def _is_tmux_server(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("tmux: server")
    except OSError:
        return False  # it has ended, or there is no /proc


def _sessions(run: LeakCheck, known: set[int | None]) -> Iterator[Leak]:
    """Sessions with a mark, on this user's tmux servers that were not started by the run."""
    for socket in Path("/tmp", f"tmux-{os.getuid()}").glob("*"):
        form = "#{pid} #{session_name} #{session_path}"
        command = ["tmux", "-S", str(socket), "list-sessions", "-F", form]
        try:
            answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return  # no tmux, or one that does not answer: it has no session of ours that could be told
        for line in answer.stdout.splitlines():
            pid, name, _ = line.split(" ", 2)
            if int(pid) not in known and run.carries_mark(line.encode()):
                yield Leak("tmux session", f"{socket} {name}")


def _files(run: LeakCheck) -> Iterator[Leak]:
    """Sockets anywhere in the run's directory, and anything in its temporary one; of a directory left, its files."""
    for base, directories, names in os.walk(run.directory):
        here = Path(base)
        if here == run.temporary:
            directories[:] = [name for name in directories if name not in CACHES]
        inside = here.is_relative_to(run.temporary)
        if inside and here != run.temporary and not directories and not names:
            yield from _kept(run, Leak("file", f"{here}/"), here)
        for name in names:
            path = here / name
            if stat.S_ISSOCK(path.lstat().st_mode):
                yield from _kept(run, Leak("socket", str(path)), path)
            elif inside:
                yield from _kept(run, Leak("file", str(path)), path)


def _kept(run: LeakCheck, leak: Leak, path: Path) -> Iterator[Leak]:
    if not any(path == kept or path.is_relative_to(kept) for kept in run.keep):
        yield leak
