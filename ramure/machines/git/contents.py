"""What is in a directory, read as bytes: no link is followed, no mount entered, no FIFO opened, and nothing interpreted.

For directories in which an agent has worked, and where nothing of it runs any more. Blocking.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Contents", "Entry", "contents", "data", "digest"]

CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file or a symbolic link. ``mode`` is git's; ``seen`` is what changes when the file does."""

    mode: str
    size: int
    seen: tuple[int, ...]


@dataclass(slots=True)
class Contents:
    """By path from the directory. ``repositories`` have an entry ``.git``; ``unreadable`` says why."""

    files: dict[bytes, Entry] = field(default_factory=dict)
    repositories: list[bytes] = field(default_factory=list)
    mounts: list[bytes] = field(default_factory=list)
    unreadable: dict[bytes, str] = field(default_factory=dict)


def contents(directory: str) -> Contents:
    """All that is in a directory, its own ``.git`` apart. What lies in a repository or a mount is not looked at."""
    root = os.fsencode(directory)
    found = Contents()
    device = os.lstat(root).st_dev
    mounted = _mounted(root)
    todo = [b""]
    while todo:
        below = todo.pop()
        try:
            there = _listed(os.path.join(root, below))
        except OSError as error:
            found.unreadable[below or b"."] = error.strerror or str(error)
            continue
        if below and any(name.lower() == b".git" for name in there):
            found.repositories.append(below)
            continue
        for name in sorted(there):
            path = os.path.join(below, name)
            full = os.path.join(root, path)
            if path == b".git":
                continue
            if name.lower() == b".git":  # git takes it for one where file systems know no upper case
                found.repositories.append(path)
                continue
            try:
                status = _readable(full)
            except OSError as error:
                found.unreadable[path] = error.strerror or str(error)
                continue
            if status.st_dev != device or full in mounted:
                found.mounts.append(path)
            elif stat.S_ISDIR(status.st_mode):
                todo.append(path)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found.files[path] = _entry(status)
    return found


def data(directory: str, path: bytes, entry: Entry) -> Iterator[bytes]:
    """The bytes of a file, or a link's target. Raises OSError, also when it is not as it was when it was listed."""
    full = os.path.join(os.fsencode(directory), path)
    if entry.mode == "120000":
        target = os.readlink(full)
        if len(target) != entry.size:
            raise OSError(f"{os.fsdecode(full)} changes while it is read")
        yield target
        return
    descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        if _entry(os.fstat(descriptor)) != entry:
            raise OSError(f"{os.fsdecode(full)} changes while it is read")
        left = entry.size
        while piece := file.read(min(CHUNK, left)):
            left -= len(piece)
            yield piece
        if left or file.read(1):
            raise OSError(f"{os.fsdecode(full)} changes while it is read")


def digest(directory: str, path: bytes, entry: Entry, algorithm: str) -> str:
    """The name that git gives to a blob with this content."""
    made = hashlib.new(algorithm, b"blob %d\0" % entry.size, usedforsecurity=False)
    for piece in data(directory, path, entry):
        made.update(piece)
    return made.hexdigest()


def _entry(status: os.stat_result) -> Entry:
    mode = "120000" if stat.S_ISLNK(status.st_mode) else "100755" if status.st_mode & stat.S_IXUSR else "100644"
    return Entry(
        mode, status.st_size, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )


def _listed(full: bytes) -> list[bytes]:
    """The names in a directory. A right that a command took away is given back, for all that is done in it later."""
    try:
        os.lstat(os.path.join(full, b"."))
        return os.listdir(full)
    except PermissionError:
        os.chmod(full, stat.S_IMODE(os.lstat(full).st_mode) | stat.S_IRWXU)
        return os.listdir(full)


def _readable(full: bytes) -> os.stat_result:
    """What lstat says; its owner may read it from now on, also where a command took away the right to."""
    status = os.lstat(full)
    if stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IRUSR and status.st_uid == os.geteuid() != 0:
        os.chmod(full, stat.S_IMODE(status.st_mode) | stat.S_IRUSR)
        status = os.lstat(full)
    return status


def _mounted(root: bytes) -> set[bytes]:
    """The mount points below a directory: a bind mount of the same file system has its device."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            points = [line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in file]
    except FileNotFoundError:
        return set()
    real = os.path.realpath(root)
    return {os.path.join(root, os.path.relpath(point, real)) for point in points if point.startswith(real + b"/")}
