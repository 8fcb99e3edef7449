"""What killed runs have left: found by their leases and ids, and removed. Blocking.

Nothing is found by what it looks like: a process is a run's when the run's id is the value of ``RAMURE_RUN_ID`` in its
environment or in that of a process above it, a socket when the lease names it, and a directory, a mount or a container when a lease records it: a
directory with its identity (:mod:`ramure.machines.reaper.removal`). Logs are kept. Leases and logs are input: what cannot be
read is told and passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ramure import life
from ramure.files import open_ours
from ramure.machines.errors import NotRemoved
from ramure.machines.reaper import leases as machine_leases
from ramure.machines.reaper.directories import remove_recorded
from ramure.marks import RUN_ID
from ramure.runtime.log.entries import Passed
from ramure.runtime.log.files import cut_torn_line, entries
from ramure.runtime.log.lines import log_line
from ramure.runtime.run.lease import Lease, leases
from ramure.runtime.run.marked import kill_marked
from ramure.runtime.run.reserve import reserves_in

__all__ = ["Leftover", "sweep"]

LOCK: Final = "gc.lock"

WAIT: Final = 300.0
"""Seconds for which a sweep that is under way is waited for."""

READ: Final = "look for what it may have been, then delete the file"

_sweeping = threading.Lock()


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a run left (``run`` is empty for a machine that was in none). ``error``: why it could not be
    removed."""

    run: str
    kind: Literal["process", "directory", "socket", "log", "lease", "machine"]
    what: str
    pid: int | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        what = self.what if self.pid is None else f"{self.pid} {self.what}"
        return f"{self.run or 'no run'}: {self.kind} {what}" + (f": not removed: {self.error}" if self.error else "")


def sweep(runtimes: Path, *, dry_run: bool = False, wait: bool = False) -> list[Leftover]:
    """Remove what the dead runs of a home (whose ``runtimes`` this is) have left, and say what that was.

    ``dry_run``: only say it. One sweep at a time: another one that is under way is waited for with ``wait``, else it is
    left to do the work.
    """
    home = runtimes.parent
    if not home.is_dir():
        return []
    with contextlib.nullcontext("") if dry_run else _alone(home, wait) as busy:
        if busy:
            return [Leftover("", "lease", str(home / LOCK), error=busy)] if wait else []
        return _sweep(home, runtimes, dry_run)


def _sweep(home: Path, runtimes: Path, dry_run: bool) -> list[Leftover]:
    known, unreadable = leases(runtimes)
    found = [Leftover(each.path.stem, "lease", str(each.path), error=f"{each.why}; {READ}") for each in unreadable]
    dead = [(path, lease) for path, lease in known if lease.program.state(home) == "dead"]
    ended = {
        lease.execution_id: _processes(RUN_ID, lease.execution_id, lease.execution_id, dry_run) for _, lease in dead
    }
    # Before the runs' own directories: what is mounted in them is unmounted; after their processes, which use it.
    found += _machines(home, dry_run)
    theirs = machine_leases.paths(home)
    for path, lease in dead:
        found += _bury(path, lease, ended[lease.execution_id], theirs, dry_run)
    runs = {lease.execution_id for _, lease in known} | {each.path.stem for each in unreadable}
    for path in sorted(runtimes.glob("*.sock")):
        if path.stem not in runs and not _listens(path):
            found.append(_unlinked(Leftover(path.stem, "socket", str(path)), path, dry_run))
    if not dry_run:
        alive = {lease.program.lock for _, lease in known}
        life.sweep(home, alive | machine_leases.programs(home))
    return found


def _machines(home: Path, dry_run: bool) -> list[Leftover]:
    """What machines of dead programs made, also those that were in no run."""
    ended: list[Leftover] = []

    def in_use(lease: machine_leases.Stale) -> str:
        """What a machine's commands left running is ended before its directory goes, or its work is saved."""
        machine = lease.fields.get("machine")
        if not isinstance(machine, str) or not re.fullmatch(r"[\w-]+", machine, re.ASCII):
            return ""
        found = _processes("RAMURE_MACHINE", machine, lease.run, dry_run)
        ended.extend(found)
        return next((f"the process {each.pid} works there: {each.error}" for each in found if each.error), "")

    removed, refused = (machine_leases.stale(home), []) if dry_run else machine_leases.remove_stale(home, in_use)
    found = [Leftover(each.run, "machine", each.what, error=each.unread or None) for each in removed]
    return ended + found + [Leftover(each.run, "machine", each.what, error=why) for each, why in refused]


@contextlib.contextmanager
def _alone(home: Path, wait: bool) -> Iterator[str]:
    """Keep other sweeps away; "" or why that is not so. By a POSIX lock: a child that is forked meanwhile has a flock
    too, for as long as it lives. That does not keep this process's other threads away, so there is a lock for these."""
    deadline = time.monotonic() + (WAIT if wait else 0.0)
    if not _sweeping.acquire(timeout=WAIT if wait else 0):
        yield f"another cleanup in this program has been under way for {WAIT:g} s"
        return
    try:
        descriptor = open_ours(home / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            while True:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in life.TAKEN:  # a file system without locks: each removal is safe by itself
                        yield ""
                        return
                else:
                    yield ""
                    return
                if time.monotonic() >= deadline:
                    yield f"another `ramure gc` has been under way for {WAIT:g} s: look for one that hangs"
                    return
                time.sleep(0.1)
        finally:
            os.close(descriptor)
    finally:
        _sweeping.release()


def _bury(path: Path, lease: Lease, processes: list[Leftover], theirs: set[str], dry_run: bool) -> list[Leftover]:
    """All that one dead run left; its lease goes last, and stays while something else could not be removed."""
    found = [*processes, *_scratch(lease, dry_run), *_unrecorded(lease, theirs, dry_run)]
    socket_path = path.with_suffix(".sock")  # one with a path too long for that is in the private directory
    if os.path.lexists(socket_path):
        found.append(_unlinked(Leftover(lease.execution_id, "socket", str(socket_path)), socket_path, dry_run))
    if not dry_run:  # that may be the room for the logs' last entries
        for reserve in reserves_in(Path(lease.logs)):
            with contextlib.suppress(OSError):
                reserve.unlink()
    found += _logs(lease, dry_run)
    if not any(leftover.error for leftover in found):
        found.append(_removed(Leftover(lease.execution_id, "lease", str(path)), path, dry_run))
    return found


def _unlinked(leftover: Leftover, path: Path, dry_run: bool) -> Leftover:
    """Remove a socket, or a link to one."""
    try:
        if stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFSOCK, stat.S_IFLNK):
            raise OSError(f"{path} is no socket: look at it, and remove it yourself")
    except FileNotFoundError:
        return leftover
    except OSError as error:
        return _with_error(leftover, error)
    return _removed(leftover, path, dry_run)


def _removed(leftover: Leftover, path: Path, dry_run: bool) -> Leftover:
    if not dry_run:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            return _with_error(leftover, error)
    return leftover


def _with_error(leftover: Leftover, error: Exception) -> Leftover:
    return Leftover(leftover.run, leftover.kind, leftover.what, leftover.pid, str(error))


# -- processes ------------------------------------------------------------------------------------------------------


def _processes(name: str, value: str, run: str, dry_run: bool) -> list[Leftover]:
    """Kill the processes with this in their environment, and what is below them; what they were."""
    if not life.proc_is_ours():
        return []  # the numbers in /proc are those of other processes
    found = kill_marked(name, value, dry_run=dry_run)
    return [Leftover(run, "process", each.command, each.pid, each.error) for each in found]


# -- directories ----------------------------------------------------------------------------------------------------


def _scratch(lease: Lease, dry_run: bool) -> Iterator[Leftover]:
    """The run's private directory."""
    if not os.path.lexists(lease.scratch):
        return
    leftover = Leftover(lease.execution_id, "directory", lease.scratch)
    if lease.scratch_identity is None:
        yield _emptied(leftover, lease.scratch, dry_run)
    elif dry_run:
        yield leftover
    else:
        try:
            remove_recorded(lease.scratch, lease.scratch_identity)
        except NotRemoved as error:
            leftover = _with_error(leftover, error)
        yield leftover


def _unrecorded(lease: Lease, theirs: set[str], dry_run: bool) -> Iterator[Leftover]:
    """Directories with the run's id that no lease names: its program was killed before it wrote one, and then they are
    empty; else they are not its own."""
    begins = f"ramure-{lease.execution_id}-"
    with contextlib.suppress(OSError), os.scandir(lease.temporary) as there:
        for entry in sorted(there, key=lambda entry: entry.name):
            if entry.name.startswith(begins) and entry.path not in theirs and entry.is_dir(follow_symlinks=False):
                yield _emptied(Leftover(lease.execution_id, "directory", entry.path), entry.path, dry_run)


def _emptied(leftover: Leftover, path: str, dry_run: bool) -> Leftover:
    try:
        if os.lstat(path).st_uid != os.geteuid() or os.listdir(path):
            raise OSError(f"{path} is not recorded as made by the run: look at it, and remove it yourself")
        if not dry_run:
            os.rmdir(path)
    except FileNotFoundError:
        return leftover
    except OSError as error:
        return _with_error(leftover, error)
    return leftover


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path.resolve()))
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


# -- logs -----------------------------------------------------------------------------------------------------------


def _logs(lease: Lease, dry_run: bool) -> Iterator[Leftover]:
    """Say in the logs of a dead run what it could not: that it died, and which calls nobody saw the end of."""
    try:
        paths = sorted(Path(lease.logs).glob("*.jsonl"))
    except OSError:
        return
    for path in paths:
        passed = Passed()
        more = _died(path, lease, passed) if path.name == "_runtime.jsonl" else _unknown_calls(path, passed)
        if passed:
            yield Leftover(lease.execution_id, "log", f"{path}: {passed}")
        if not more or str(path) in passed.files:
            continue
        leftover = Leftover(lease.execution_id, "log", f"{path}: " + ", ".join(str(entry["type"]) for entry in more))
        if not dry_run:
            try:
                cut_torn_line(path)
                with open(open_ours(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
                    file.writelines(log_line(entry) for entry in more)
            except OSError as error:
                leftover = _with_error(leftover, error)
        yield leftover


def _died(path: Path, lease: Lease, passed: Passed) -> list[dict[str, Any]]:
    if any(entry.get("type") == "run_died" for entry in entries(path, passed)):
        return []
    return [{"ts": time.time(), "type": "run_died", "pid": lease.pid}]


def _unknown_calls(path: Path, passed: Passed) -> list[dict[str, Any]]:
    """An entry ``tool_unknown`` for each call of an agent's log that was under way."""
    begun: dict[str, Any] = {}
    seq = 0
    for entry in entries(path, passed):
        seq = max(seq, entry.get("seq", 0))
        data = entry.get("data")
        if not isinstance(data, dict):
            continue
        match entry.get("type"):
            case "tool_call":
                begun[str(data.get("call_id"))] = data.get("name")
            case "tool_result" | "tool_unknown":
                begun.pop(str(data.get("call_id")), None)
    why = "the run was killed while this call was under way: whether it took effect is not known"
    return [
        {
            "seq": seq + number,
            "ts": time.time(),
            "type": "tool_unknown",
            "data": {"call_id": call_id, "name": name, "text": why},
            "origin": "gc",
        }
        for number, (call_id, name) in enumerate(begun.items(), start=1)
    ]
