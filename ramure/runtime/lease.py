"""A run's lease: the file that says which process holds the run, and what is the run's on disk.

It is written before anything else is made, and removed when all of that is gone. A lease whose process is dead belongs to
a run that was killed: ``ramure gc`` and the next run's start remove what it left.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.runtime.paths import RunPaths

__all__ = ["Lease", "leases", "write_lease"]


@dataclass(frozen=True, slots=True)
class Lease:
    """``started`` and ``boot`` tell the process from a later one with the same number."""

    execution_id: str
    pid: int
    started: str
    boot: str
    host: str
    logs: str
    scratch: str
    socket: str
    temporary: str
    """The directory in which the run's temporary directories are."""

    def elsewhere(self) -> bool:
        """Whether it was written on another host, in a home that several share: only that one can tell."""
        return self.host != socket.gethostname()

    def alive(self) -> bool:
        """Whether its process is."""
        return self.boot == _boot() and self.started == _started(self.pid)


def write_lease(paths: RunPaths) -> None:
    """This process holds the run from now on."""
    lease = Lease(
        execution_id=paths.execution_id,
        pid=os.getpid(),
        started=_started(os.getpid()),
        boot=_boot(),
        host=socket.gethostname(),
        logs=str(paths.logs),
        scratch=str(paths.scratch),
        socket=str(paths.socket),
        temporary=tempfile.gettempdir(),
    )
    # Whole or not at all: others read it at any time.
    new = paths.record.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(lease), file)
    new.rename(paths.record)


def leases(runtimes: Path) -> list[tuple[Path, Lease]]:
    """The leases in a home's ``runtimes``, with their files. What is no lease is left out."""
    found = []
    for path in sorted(runtimes.glob("*.json")) if runtimes.is_dir() else []:
        try:
            lease = Lease(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # its run has just ended; or it is another version's, which knows what to do with it
        if lease.execution_id == path.stem:
            found.append((path, lease))
    return found


def _started(pid: int) -> str:
    """When the process started, as the system says it; "" when there is none, or one that only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return ""
        return _started_of_ps(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _started_of_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.split()
    return "" if not said or said[0].startswith("Z") else " ".join(said[1:])


def _boot() -> str:
    """Which of the host's boots this is: process numbers and start times begin anew with each. "" where the system does
    not say; start times are dates there."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""
