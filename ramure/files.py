"""Open files of this user, and nothing else, by paths where others may have put something. Blocking.

What is on disk is input: in place of a log or a lease there may be a FIFO (which an open waits for), a device, a
directory, a link to any of them, or another user's file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["NotOurs", "open_ours", "read_json", "read_ours"]


class NotOurs(OSError):
    """There is something else than a regular file of this user's. ``why`` says what."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.why = why


def open_ours(path: str | Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of a regular file that belongs to this user, which no child inherits.

    Does not wait and follows no link. Raises :class:`NotOurs`, else OSError as :func:`os.open` does.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotOurs(path, "it is a symbolic link, not a regular file") from error
        if error.errno == errno.ENXIO:
            raise NotOurs(path, f"it is a {_kind(os.lstat(path).st_mode)}, not a regular file") from error
        if error.errno == errno.EISDIR:
            raise NotOurs(path, "it is a directory, not a regular file") from error
        raise
    there = os.fstat(descriptor)
    if stat.S_ISREG(there.st_mode) and there.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(there.st_mode):
        raise NotOurs(path, f"it is a {_kind(there.st_mode)}, not a regular file")
    raise NotOurs(path, f"it belongs to user {there.st_uid}, not to {os.geteuid()}")


def read_ours(path: str | Path, limit: int) -> bytes:
    """What is in a file of this user's. Raises :class:`NotOurs`, also when that is more than ``limit`` bytes."""
    with open(open_ours(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise NotOurs(path, f"it is longer than {limit:,} bytes")
    return data


def read_json(path: str | Path, limit: int) -> Any:
    """The JSON in a file of this user's. Raises ValueError where it is none, or has text that can be in no path."""
    data = json.loads(read_ours(path, limit))
    os.fsencode(json.dumps(data, ensure_ascii=False))
    return data


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFLNK: "symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "device")
