"""Where runs live on disk: the names of runs, and the paths of one run.

Directories are 0700 and files 0600, whatever the umask says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ramure.errors import UsageError
from ramure.home import private_dir, ramure_home
from ramure.life import Life, hold
from ramure.runtime.run.alarms import DiskFull
from ramure.runtime.run.lease import Lease, write_lease
from ramure.runtime.run.reserve import FULL, PIECE
from ramure.runtime.run.scratch import Scratch

__all__ = ["Home", "RunPaths", "new_execution_id"]

SOCKET_PATH_LIMIT: Final = 100
"""Bytes of an AF_UNIX path that every system takes (Linux 107, macOS 103)."""

_ADJECTIVES: Final = (
    "amber bold brave brisk calm clear crisp deft eager early fair fleet fond free fresh gentle glad green hardy "
    "keen kind light lively lucid mellow merry mild neat nimble noble plain proud quick quiet ready rosy sharp "
    "silver sleek smart snug solid spry stark steady still sunny swift tidy true vivid warm wise young"
).split()
_NOUNS: Final = (
    "acorn alder ash aspen badger beech birch bison brook cedar clover crane creek curlew cypress dale elder elk elm "
    "falcon fern finch fir fox glade grove hare hawthorn hazel heron holly ibis iris ivy jay juniper larch lark linden "
    "lynx maple marten meadow moss oak orchid osprey otter owl pine plover poplar quail rowan sage sedge sorrel "
    "sparrow spruce stork swan swift teal thistle vale vine walnut willow wren yarrow yew"
).split()


def new_execution_id() -> str:
    """A fresh id of a run, as ``brave-otter-3f9a1c``: its first two words are a name to remember it by."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The paths of one run."""

    execution_id: str
    logs: Path
    """``_runtime.jsonl``, one log for each agent, and ``sessions/``."""
    sessions: Path
    socket: Path
    """The control socket."""
    lease: Path
    """Where clients look for it: the socket, or a link to it where its path would be too long."""
    private: Scratch
    """Short-lived private files: launch configurations, tmux sockets. Removed at the end of the run."""

    record: Path
    """The run's lease: see :mod:`ramure.runtime.run.lease`."""

    note: str
    """What the user is to know about these; "" for nothing."""

    life: Life

    @property
    def scratch(self) -> Path:
        """The path of the private directory."""
        return self.private.path

    def release(self) -> None:
        """Remove the private directory and the sockets, then the lease. The logs are the user's."""
        try:
            self.private.remove()
            self.socket.unlink(missing_ok=True)
            self.lease.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # who has removed the logs needs no tidying
                if not any(self.sessions.iterdir()):
                    self.sessions.rmdir()
        finally:
            self.record.unlink(missing_ok=True)
            self.life.drop()

    @property
    def run_log(self) -> Path:
        return self.logs / "_runtime.jsonl"

    def agent_log(self, name: str) -> Path:
        return self.logs / f"{name}.jsonl"

    def session_file(self, name: str) -> Path:
        return self.sessions / f"{name}.jsonl"


@dataclass(frozen=True, slots=True)
class Home:
    """ramure's own directory: ``RAMURE_HOME``, else ``~/.ramure``."""

    path: Path

    @classmethod
    def find(cls) -> Home:
        """The home that the environment names. Raises :class:`UsageError` when it cannot be used."""
        path = ramure_home()
        try:
            if not private_dir(path).is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        except OSError as error:
            raise _unusable(path, error) from error
        return cls(path)

    @property
    def runtimes(self) -> Path:
        return self.path / "runtimes"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def run_paths(self, execution_id: str, log_dir: Path | None = None) -> RunPaths:
        """Take a lease, make the directories of a new run, and say where things are."""
        logs = (log_dir or self.logs).absolute() / execution_id
        scratch, note = _short_directory(execution_id)
        try:
            lease = private_dir(self.runtimes) / f"{execution_id}.sock"
        except OSError as error:
            raise _unusable(self.path, error) from error
        too_long = len(os.fsencode(lease)) > SOCKET_PATH_LIMIT
        socket = scratch / "control.sock" if too_long else lease
        record = self.runtimes / f"{execution_id}.json"
        life = hold(self.path)
        known = Lease(execution_id, life.program, str(logs), str(scratch), str(socket), tempfile.gettempdir())
        private = Scratch(
            scratch, execution_id, lambda identity: write_lease(record, replace(known, scratch_identity=identity))
        )
        paths = RunPaths(execution_id, logs, logs / "sessions", socket, lease, private, record, note, life)
        try:
            write_lease(record, known)
            private_dir(paths.sessions)
            private.ensure()
            if too_long:
                lease.symlink_to(socket)
        except BaseException as error:
            paths.release()
            if isinstance(error, OSError) and error.errno in FULL:
                raise DiskFull.at_start(str(error.filename or self.path), PIECE, str(error.strerror).lower()) from error
            raise
        return paths


def _unusable(home: Path, error: OSError) -> UsageError:
    remedy = "make room on its disk, or set RAMURE_HOME" if error.errno in FULL else "set RAMURE_HOME"
    return UsageError(f"ramure's home {home} cannot be used: {error}; {remedy} to a directory of yours")


def _short_directory(execution_id: str) -> tuple[Path, str]:
    """Where a run's private directory is to be, with a path short enough for sockets in it: in a directory of this
    user's, else, with a note that says why, on its own."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    candidates = [Path(base)] if base and len(base) < 40 else []
    candidates += [Path("/tmp"), Path(tempfile.gettempdir())]
    for candidate in candidates:
        path = candidate / f"ramure-{os.getuid()}"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            status = path.lstat()
        except FileExistsError:
            status = path.lstat()
        except OSError:
            continue
        # In a shared directory somebody else may have made it first, or made it a link.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            path.chmod(0o700)
            return path / execution_id, ""
        if os.access(candidate, os.W_OK | os.X_OK):
            what = f"belongs to user {status.st_uid}" if stat.S_ISDIR(status.st_mode) else "is no directory"
            own = candidate / f"ramure-{os.getuid()}-{execution_id}"
            return own, f"{path} {what}: the private directory of this run is {own}"
    raise UsageError("no directory for sockets: neither XDG_RUNTIME_DIR, /tmp nor TMPDIR lets us make one of our own")
