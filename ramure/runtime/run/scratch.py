"""A run's private directory: made when the run starts, again when a cleaner has removed it, and removed at its end.

Blocking functions; each is a few system calls.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ramure.errors import UsageError
from ramure.home import private_dir
from ramure.machines.errors import NotRemoved
from ramure.machines.reaper import leases
from ramure.machines.reaper.directories import remove_recorded
from ramure.machines.reaper.removal import Identity, identify
from ramure.masking import get_logger

__all__ = ["Scratch"]

logger: logging.Logger = get_logger("ramure.runtime")


class Scratch:
    """``path`` is the directory, ``record`` writes its identity down."""

    def __init__(self, path: Path, run: str, record: Callable[[Identity], None]) -> None:
        self.path = path
        self._run = run
        self._record = record
        self.identity: Identity | None = None
        self._lock = -1

    def ensure(self) -> Path:
        """The directory's path. It is made if it is not there. Raises :class:`UsageError` if something else is."""
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            self._make()
            return self.path
        known = self.identity
        if known is None or not stat.S_ISDIR(there.st_mode) or there.st_ino != known["inode"]:
            raise UsageError(f"{self.path} is not the run's private directory: another is in its place; remove it")
        return self.path

    def remove(self) -> None:
        """Remove it with all in it. What cannot be removed safely stays, with a warning, for ``ramure gc``."""
        if self.identity is not None:
            try:
                remove_recorded(str(self.path), self.identity)
            except NotRemoved as kept:
                logger.warning("%s", kept)
                fields = {"path": str(self.path), "identity": self.identity}
                leases.take(self._run, f"the private directory {self.path}", "directory", fields, run=self._run).leave()
        self._unlock()

    def _make(self) -> None:
        private_dir(self.path.parent)
        self.path.mkdir(mode=0o700)
        self.path.chmod(0o700)
        self.identity = identify(str(self.path))
        self._record(self.identity)
        self._unlock()
        # systemd-tmpfiles does not age what is in a directory that is locked (tmpfiles.d(5)).
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
