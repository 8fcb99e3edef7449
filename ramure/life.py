"""Which programs live: each holds a lock in its home, and the kernel lets go of that when the program ends. Blocking.

The lock is a POSIX record lock: a forked child does not inherit it, as it would a flock(2). It has two hazards, and
both are met here alone. Closing any descriptor of the file lets go of the lock: so this module alone opens these files,
and not those that its own process holds. And a file system may have no locks, or somebody may remove the file: then the
process number decides, within its boot and pid namespace, and elsewhere nothing does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ramure.files import open_ours

__all__ = ["Life", "Program", "hold", "proc_is_ours", "started", "sweep", "this_boot"]

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO})
"""What locking fails with on a file system that has no locks (NFS without lockd, some FUSE)."""

TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN})

State = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True, slots=True)
class Program:
    """A running program, as its leases name it. ``started``, ``boot`` and ``namespace`` tell the process from a later
    or another one with the same number."""

    lock: str
    """The name of the file that it has locked; "" if the file system has no locks."""
    pid: int
    started: str
    boot: str
    namespace: str
    host: str

    @classmethod
    def read(cls, data: object) -> Program:
        """From a lease. Raises ValueError when it is none."""
        if not isinstance(data, Mapping) or set(data) != set(cls.__slots__):
            raise ValueError(f"no program: {str(data)[:100]}")
        pid = data["pid"]
        texts = [data[name] for name in cls.__slots__ if name != "pid"]
        if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 1 << 31:
            raise ValueError(f"no process number: {str(pid)[:100]}")
        if not all(isinstance(text, str) and len(text) < 1000 and "\0" not in text for text in texts):
            raise ValueError("a program is described by texts")
        if "/" in data["lock"]:
            raise ValueError("a lock is named by a name, not by a path")
        return cls(**{str(name): value for name, value in data.items()})

    def state(self, home: Path) -> State:
        """Whether it lives. ``unknown`` where only its own host can tell, or the system does not say."""
        lock = _look(_directory(home) / self.lock) if self.lock else "unknown"
        if lock == "alive":
            return "alive"
        if self.boot == this_boot() and self.namespace == _namespace() and proc_is_ours():
            # Also beside a lock that is free: somebody may have closed a descriptor of it in that process.
            return "alive" if started(self.pid) == self.started else "dead"
        if self.boot == this_boot():
            return lock
        return "dead" if self.host == socket.gethostname() else "unknown"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Life:
    """That this program lives, for as long as it is held."""

    def __init__(self, home: Path, path: Path | None, descriptor: int, program: Program) -> None:
        self.program = program
        self._home = home
        self._path = path
        self._descriptor = descriptor
        self._holders = 0
        self._pid = os.getpid()

    def drop(self) -> None:
        """One holder less; with the last one the lock goes."""
        with _lock:
            self._holders -= 1
            if self._holders == 0 and self._pid == os.getpid():
                _lives.pop(self._home, None)
                if self._path is not None:
                    self._path.unlink(missing_ok=True)
                    os.close(self._descriptor)

    def key(self) -> tuple[int, int] | None:
        """The file, if this process has it locked."""
        if self._path is None or self._pid != os.getpid():
            return None
        there = os.fstat(self._descriptor)
        return there.st_dev, there.st_ino


_lives: dict[Path, Life] = {}
_lock = threading.RLock()


def _after_fork() -> None:
    """A forked child is another program: its parent's lives are not its own."""
    _lock.release()
    _lives.clear()


# Around a fork, so that no other thread of the parent's has the lock in the child, where it would never be released.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


def hold(home: Path) -> Life:
    """Say that this program lives, to all who look into the same home, until :meth:`Life.drop`."""
    with _lock:
        life = _lives.get(home)
        if life is None:
            life = _lives[home] = _take(home)
        life._holders += 1
        return life


def _take(home: Path) -> Life:
    directory = _directory(home)
    directory.mkdir(mode=0o700, exist_ok=True)
    name = f"{os.getpid()}-{secrets.token_hex(6)}"
    pid = os.getpid()
    facts = {"pid": pid, "started": started(pid), "boot": this_boot(), "namespace": _namespace()}
    path, new = directory / name, directory / f".{name}.new"
    descriptor = open_ours(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(path)  # locked before anybody can see it
    except OSError as error:
        new.unlink(missing_ok=True)
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise
        return Life(home, None, -1, Program(lock="", host=socket.gethostname(), **facts))  # type: ignore[arg-type]
    return Life(home, path, descriptor, Program(lock=name, host=socket.gethostname(), **facts))  # type: ignore[arg-type]


def sweep(home: Path, used: set[str]) -> None:
    """Remove the files of dead programs that no lease names any more."""
    for path in _directory(home).glob("*"):
        if path.name not in used and _look(path) == "dead":
            with contextlib.suppress(OSError):
                path.unlink()


def _directory(home: Path) -> Path:
    return home / "programs"


def _look(path: Path) -> State:
    """Whether somebody has this file locked: "unknown" when it is not there, or cannot be said."""
    try:
        there = os.lstat(path)
        with _lock:
            if any(life.key() == (there.st_dev, there.st_ino) for life in _lives.values()):
                return "alive"
        descriptor = open_ours(path)
    except OSError:
        return "unknown"
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return "alive" if error.errno in TAKEN else "unknown"
    finally:
        os.close(descriptor)
    return "dead"


def this_boot() -> str:
    """Which of the host's boots this is: process numbers and start times begin anew with each. "" where the system does
    not say; start times are dates there."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """The pid namespace: a process number means nothing in another one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def proc_is_ours() -> bool:
    """Whether the numbers in /proc are those of our pid namespace: after ``unshare --pid`` without another /proc they are
    not. True on a system without /proc."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return True


def started(pid: int) -> str:
    """When a process started, as the system says it; "" when there is none, or one that only waits to be reaped."""
    number = "self" if pid == os.getpid() else str(pid)
    try:
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return ""
        return _started_of_ps(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _started_of_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.split()
    return "" if not said or said[0].startswith("Z") else " ".join(said[1:])
