"""Files that hold room on a disk for what must be written when that disk is full. Blocking; no event loop."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from ramure.files import open_ours

__all__ = ["FULL", "NAME", "PIECE", "Reserve", "reserves_in"]

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What a system call fails with when there is no room: on the disk, in the user's share of it, or since it is read-only now.
All three can be over without this program's doing."""

NAME: Final = ".reserve"
"""How the files begin in a run's logs; those beside a session file end so (``agents/extension/reserve.ts``)."""

PIECE: Final = 1 << 16
"""Bytes of each file."""


class Reserve:
    """So many ``pieces`` of a disk, each a file of its own: a part of a file does not give its room back everywhere.

    For one thread at a time. Another program that is filling the disk may be quicker than the caller of :meth:`spend`: so
    it gives back no more than is needed now.
    """

    def __init__(self, directory: Path, pieces: int = 4) -> None:
        self.directory = directory
        self._paths = [directory / f"{NAME}.{number}" for number in range(pieces)]
        self._held: list[Path] = []

    @property
    def missing(self) -> int:
        """Bytes that :meth:`fill` would take."""
        return PIECE * (len(self._paths) - len(self._held))

    def fill(self) -> None:
        """Make it whole. Raises OSError, with an ``errno`` in :data:`FULL` if there is no room for that."""
        for path in self._paths:
            if path not in self._held:
                _take(path)
                self._held.append(path)

    def spend(self, size: int, keep: int = 0) -> bool:
        """Give back room for ``size`` bytes, but keep so many pieces. False when nothing could be given back."""
        gained = False
        for _ in range(size // PIECE + 1):
            if len(self._held) <= keep:
                break
            with contextlib.suppress(OSError):
                self._held.pop().unlink()
                gained = True
        return gained

    def remove(self) -> None:
        """Give back all, also what an attempt to :meth:`fill` has left."""
        self._held.clear()
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()


def reserves_in(logs: Path) -> list[Path]:
    """The files of reserves in the directory of a run's logs, and beside its session files."""
    return sorted([*logs.glob(f"{NAME}.*"), *logs.glob(f"sessions/*{NAME}")])


def _take(path: Path) -> None:
    descriptor = open_ours(path, os.O_WRONLY | os.O_CREAT)
    try:
        data = os.urandom(PIECE)  # neither a hole nor anything that a file system could compress
        written = 0
        while written < PIECE:
            written += os.pwrite(descriptor, data[written:], written)
    except OSError:
        path.unlink()  # others need that room more
        raise
    finally:
        os.close(descriptor)
