"""What killed runs have left: found by their leases and ids, and removed. Blocking.

Nothing is found by what it looks like: a process is a run's when the run's id is the value of ``RAMURE_RUN_ID`` in its
environment or in that of a process above it, a file when the lease names it, a temporary directory when the whole id stands in its name, and what a
machine made elsewhere (a container, a mount) when the machine's lease says how it is undone. Logs are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ramure.machines import leases as machine_leases
from ramure.machines.errors import CopyFailed
from ramure.machines.workspace import WORKTREE, remove_tree
from ramure.machines.worktrees import remove_stale_worktree
from ramure.marks import RUN_ID
from ramure.runtime.lease import Lease, leases
from ramure.runtime.log_files import cut_torn_line, entries
from ramure.runtime.marked import kill_marked

__all__ = ["Leftover", "sweep"]


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
    found, theirs = _machines(runtimes.parent, dry_run)  # first: no directory is removed through a mount
    found += _runs(runtimes, theirs, dry_run, wait=wait or dry_run)
    return found + _worktrees(runtimes.parent, dry_run)  # last: nothing works there any more


def _runs(runtimes: Path, theirs: set[Path], dry_run: bool, *, wait: bool) -> list[Leftover]:
    """What the runs left by themselves."""
    found: list[Leftover] = []
    if not runtimes.is_dir():
        return found
    with _alone(runtimes, wait) as alone:
        if not alone:
            return found
        known = set()
        for path, lease in leases(runtimes):
            known.add(lease.execution_id)
            if not lease.elsewhere() and not lease.alive():
                found += _bury(path, lease, theirs, dry_run)
        for path in sorted(runtimes.glob("*.sock")):
            if path.stem not in known and not _listens(path):
                found.append(_removed(Leftover(path.stem, "socket", str(path)), path, dry_run))
        return found


def _machines(home: Path, dry_run: bool) -> tuple[list[Leftover], set[Path]]:
    """What machines of dead programs made elsewhere, also those that were in no run; and the directories that they, and
    so nobody else, remove."""
    refused: list[tuple[machine_leases.Stale, str]] = []
    if dry_run:
        removed = [each for each in machine_leases.stale(home) if each.worktree is None]
    else:
        removed, refused = machine_leases.remove_stale(home)
    found = [Leftover(each.run, "machine", each.what) for each in removed]
    found += [Leftover(each.run, "machine", each.what, error=why) for each, why in refused]
    theirs = {Path(made) for each in (*removed, *(each for each, _ in refused)) for made in each.paths}
    return found, theirs | {Path(path).parent for path in machine_leases.worktree_paths(home)}


def _worktrees(home: Path, dry_run: bool) -> list[Leftover]:
    """Git worktrees of dead programs, by their leases alone: the work is saved to refs of the repository, or they stay."""
    found = []
    for lease in machine_leases.stale_worktrees(home):
        leftover = Leftover(lease.run, "machine", lease.what)
        if not dry_run:
            try:
                machine = str((lease.worktree or {}).get("identity"))
                left = [each for each in _processes("RAMURE_MACHINE", machine, dry_run) if each.error]
                if left:
                    raise CopyFailed(f"the process {left[0].pid} works there: {left[0].error}")
                remove_stale_worktree(lease)
                lease.path.unlink(missing_ok=True)
            except (OSError, CopyFailed, shutil.Error) as error:
                leftover = _with_error(leftover, error)
        found.append(leftover)
    return found


@contextlib.contextmanager
def _alone(runtimes: Path, wait: bool) -> Iterator[bool]:
    descriptor = os.open(runtimes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _bury(path: Path, lease: Lease, theirs: set[Path], dry_run: bool) -> list[Leftover]:
    """All that one dead run left; its lease goes last, and stays while something else could not be removed."""
    found = _processes(RUN_ID, lease.execution_id, dry_run)
    for directory in (each for each in _directories(lease) if each not in theirs):
        leftover = Leftover(lease.execution_id, "directory", str(directory))
        found.append(leftover if dry_run else _without(leftover, directory))
    for socket_path in {path.with_suffix(".sock"), Path(lease.socket)}:
        if os.path.lexists(socket_path):
            found.append(_removed(Leftover(lease.execution_id, "socket", str(socket_path)), socket_path, dry_run))
    found += _logs(lease, dry_run)
    if not any(leftover.error for leftover in found):
        found.append(_removed(Leftover(lease.execution_id, "lease", str(path)), path, dry_run))
    return found


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


def _processes(name: str, value: str, dry_run: bool) -> list[Leftover]:
    """Kill the processes with this in their environment, and what is below them; what they were."""
    found = kill_marked(name, value, dry_run=dry_run)
    return [Leftover(value, "process", each.command, each.pid, each.error) for each in found]


# -- directories ----------------------------------------------------------------------------------------------------


def _directories(lease: Lease) -> Iterator[Path]:
    """The run's private directory, and its temporary ones. Links, and what others own, are not ours."""
    candidates = [Path(lease.scratch)]
    with contextlib.suppress(OSError), os.scandir(lease.temporary) as there:
        begins = f"ramure-{lease.execution_id}-"
        candidates += sorted(Path(entry.path) for entry in there if entry.name.startswith(begins))
    for path in candidates:
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
                yield path


def _without(leftover: Leftover, directory: Path) -> Leftover:
    """Remove a directory. Nothing is removed through a mount in it: behind that may be anything."""
    mounted = [point for point in _mounts() if point.is_relative_to(directory)]
    if mounted:
        return _with_error(leftover, OSError(f"{mounted[0]} is mounted in it: unmount that first"))
    if re.match(rf"[0-9a-f]+-{WORKTREE}", directory.name.removeprefix(f"ramure-{leftover.run}-")):
        return _with_error(
            leftover, OSError("it may be a git worktree with work in it, but no lease says of what: look into it")
        )
    try:
        remove_tree(str(directory))
    except (OSError, shutil.Error) as error:
        if directory.exists():  # else somebody was faster: a keeper that has outlived its program
            return _with_error(leftover, error)
    return leftover


def _mounts() -> list[Path]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    return [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]


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
    directory = Path(lease.logs)
    for path in sorted(directory.glob("*.jsonl")):
        run_log = path.name == "_runtime.jsonl"
        more = [] if run_log else _unknown_calls(path)
        if run_log and not any(entry.get("type") == "run_died" for entry in entries(path)):
            more = [{"ts": time.time(), "type": "run_died", "pid": lease.pid}]
        if not more:
            continue
        leftover = Leftover(lease.execution_id, "log", f"{path}: " + ", ".join(str(entry["type"]) for entry in more))
        if not dry_run:
            try:
                cut_torn_line(path)
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in more)
            except OSError as error:
                leftover = _with_error(leftover, error)
        yield leftover


def _unknown_calls(path: Path) -> list[dict[str, Any]]:
    """An entry ``tool_unknown`` for each call of an agent's log that was under way."""
    begun: dict[str, Any] = {}
    seq = 0
    for entry in entries(path):
        seq = max(seq, int(entry.get("seq", 0)))
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
