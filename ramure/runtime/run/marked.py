"""Processes by a mark in their environment, with what is below them: found, and killed. Blocking."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

__all__ = ["Found", "environment_of", "kill_marked"]

KILL_LIMIT: Final = 5.0
"""Seconds that processes have to be gone after SIGKILL."""

BECOMING: Final = 1.0
"""Seconds that a process has to become a program."""

HAS_ARGUMENTS: Final = 0.02
"""Seconds from its arguments to its environment; one that was started without any (``env -i``) costs that much."""

BELOW_FIRST: Final = 3
"""Rounds in which only what is below others is killed."""


@dataclass(frozen=True, slots=True)
class Found:
    """A process. ``error``: why it could not be killed."""

    pid: int
    command: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A process as it was listed. ``born`` tells it from a later one with its number."""

    parent: int
    born: str


def kill_marked(name: str, value: str, *, apart: Collection[int] = (), dry_run: bool = False) -> list[Found]:
    """Kill each process whose environment has ``name=value``, and all that is below it, also what they start meanwhile; what
    they were. This process is not touched, nor what is below the processes ``apart``. ``dry_run``: only find them."""
    found: dict[int, Found] = {}
    deadline = time.monotonic() + KILL_LIMIT
    rounds = 0
    while theirs := _theirs(name, value, apart):
        for pid in theirs:
            found.setdefault(pid, Found(pid, _command(pid)))
        if dry_run:
            break
        if time.monotonic() > deadline:
            return [replace(each, error="it does not end") if each.pid in theirs else each for each in found.values()]
        # The topmost last: a subreaper inherits what the killed have started, for as long as it lives.
        below = [pid for pid, process in theirs.items() if process.parent in theirs]
        for pid in below if below and rounds < BELOW_FIRST else list(theirs):
            _kill(pid, theirs[pid].born, deadline)
        rounds += 1
    return list(found.values())


def _theirs(name: str, value: str, apart: Collection[int]) -> dict[int, _Seen]:
    marked = set(_marked(name, value))
    if not marked:
        return {}
    everything, chosen = _seen(), {}
    for pid, process in everything.items():
        at, above = pid, set[int]()
        while at in everything and at not in above:
            above.add(at)
            at = everything[at].parent
        if pid != os.getpid() and marked & above and above.isdisjoint(apart):
            chosen[pid] = process
    return chosen


def _seen() -> dict[int, _Seen]:
    """All processes that are no zombies."""
    if not Path("/proc/self/stat").exists():
        rows = (line.split(None, 3) for line in _ps("-Ao", "pid=,ppid=,stat=,lstart="))
        return {int(pid): _Seen(int(parent), born) for pid, parent, state, born in rows if not state.startswith("Z")}
    found = {}
    for pid in _numbers():
        with contextlib.suppress(OSError):  # it has ended
            state, parent, *fields = _fields(pid)
            if state not in "ZX":
                found[pid] = _Seen(int(parent), fields[17])
    return found


def _marked(name: str, value: str) -> list[int]:
    """Processes of this user that have this in their environment."""
    if not Path("/proc/self/environ").exists():
        lines = [line.split() for line in _ps("xeww", "-o", "pid=,command=")]
        return [int(words[0]) for words in lines if f"{name}={value}" in words]
    entry = f"{name}={value}".encode()
    found = []
    for pid in _numbers():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if entry in environment_of(pid).split(b"\0"):
                found.append(pid)
    return found


def environment_of(pid: int) -> bytes:
    """What a process was started with, NUL-separated (Linux). One that is just becoming a program has none for a moment, also
    when who started it has been told that it runs: it is looked at again for a while. Raises OSError."""
    began = time.monotonic()
    directory = Path(f"/proc/{pid}")
    while not (found := (directory / "environ").read_bytes()):
        limit = HAS_ARGUMENTS if (directory / "cmdline").read_bytes() else BECOMING
        if time.monotonic() > began + limit or not os.path.exists(directory / "exe"):  # a thread of the kernel has none
            break
        time.sleep(0.001)
    return found


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _fields(pid: int) -> list[str]:
    """What /proc says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _ps(*arguments: str) -> list[str]:
    done = subprocess.run(["ps", *arguments], check=True, capture_output=True, text=True, timeout=10)
    return done.stdout.splitlines()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return ""


def _kill(pid: int, born: str, deadline: float) -> None:
    """SIGKILL, to this very process: its number may have become another's since it was looked at. One of another user is
    left, which the next look tells."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):  # it has ended by itself
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            return
        descriptor = os.pidfd_open(pid)
        try:
            if _fields(pid)[19] == born:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(descriptor)
