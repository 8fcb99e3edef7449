"""Log files on disk: written in whole lines, in parts of a bounded size, and read back. Blocking; no event loop.

A log is ``name.jsonl``. When that has grown to the limit it becomes ``name.jsonl.1``, ``name.jsonl.2`` … (1 is the
oldest), and the log goes on in a new ``name.jsonl``. No part is ever removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from ramure.files import open_ours
from ramure.runtime.log.entries import LONGEST, Entry, Passed, parse
from ramure.runtime.run.reserve import FULL

__all__ = ["LogFiles", "cut_torn_line", "entries", "lines", "parts"]

MOST_OPEN: Final = 64
"""Log files that are open at once: thousands of agents, and those that have ended, must not use up the descriptors."""


class _File:
    """An open log file, and how long it is."""

    __slots__ = ("descriptor", "size")

    def __init__(self, path: Path) -> None:
        self.descriptor = open_ours(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.size = os.fstat(self.descriptor).st_size

    def write(self, lines: Sequence[bytes], fsync: bool) -> int:
        """Append these lines, or as many whole ones as there is room for; how many. Raises OSError if there is room for
        none."""
        data = b"".join(lines)
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, data[written:] if written else data)
            if fsync:
                os.fsync(self.descriptor)
        except OSError as error:
            # A reader must not see half a line; and what could not be synced is written once more.
            whole = data.rfind(b"\n", 0, written) + 1 if written < len(data) and not fsync else 0
            os.ftruncate(self.descriptor, self.size + whole)
            if not whole or error.errno not in FULL:
                raise
            data = data[:whole]
        self.size += len(data)
        return data.count(b"\n")

    def close(self) -> None:
        os.close(self.descriptor)


class LogFiles:
    """Appends to any number of logs; for one thread. Files have mode 0600.

    ``fsync``: what :meth:`append` has returned from survives a power cut. ``rotate``: bytes at which a log goes on in a
    new file (None: never).
    """

    def __init__(self, *, fsync: bool = False, rotate: int | None = None) -> None:
        self._fsync = fsync
        self._rotate = rotate
        self._files: dict[Path, _File] = {}

    def append(self, path: Path, lines: list[bytes]) -> None:
        """Append lines, each of which ends with its only newline; what is written is taken out of the list.

        Raises OSError, with an ``errno`` in :data:`~ramure.runtime.run.reserve.FULL` if the disk is full. No line is left half written.
        """
        while lines:
            file = self._open(path)
            count = self._fitting(file, lines)
            if count:
                del lines[: file.write(lines[:count], self._fsync)]
            else:
                self._begin_part(path)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, path: Path) -> _File:
        file = self._files.pop(path, None)
        if file is None:
            if len(self._files) >= MOST_OPEN:
                self._files.pop(next(iter(self._files))).close()
            new = self._fsync and not path.exists()
            file = _File(path)
            if new:
                _fsync_directory(path.parent)
        self._files[path] = file  # the last written to is the last to be closed
        return file

    def _fitting(self, file: _File, lines: Sequence[bytes]) -> int:
        """How many of the lines go into this part; a line that is longer than a part has one to itself."""
        if self._rotate is None:
            return len(lines)
        size = file.size
        for number, line in enumerate(lines):
            if size and size + len(line) > self._rotate:
                return number
            size += len(line)
        return len(lines)

    def _begin_part(self, path: Path) -> None:
        self._files.pop(path).close()
        closed = parts(path)[:-1]
        number = 1 + (_number(closed[-1]) if closed else 0)
        path.rename(path.with_name(f"{path.name}.{number}"))


def parts(path: Path) -> list[Path]:
    """The files of the log ``path``, oldest first; the last is ``path`` itself, if it exists."""
    found = [each for each in path.parent.glob(f"{_literal(path.name)}.*") if each.suffix[1:].isdecimal()]
    return sorted(found, key=_number) + ([path] if path.exists() else [])


def entries(path: Path, passed: Passed | None = None) -> Iterator[Entry]:
    """The entries of the log ``path``, of all its parts, in order. What is no entry, and what is no file of this user's,
    is left out, and counted in ``passed``. A last line that a crash has torn is not counted: it is none yet."""
    for line in lines(path, passed):
        entry = parse(line)
        if entry is not None:
            yield entry
        elif passed is not None:
            passed.lines += 1


def lines(path: Path, passed: Passed | None = None) -> Iterator[bytes]:
    """The whole lines of a log, of all its parts, in order; see :func:`entries`."""
    for part in parts(path):
        try:
            descriptor = open_ours(part)
        except OSError as error:
            if passed is not None:
                passed.files[str(part)] = str(error)
            continue
        with open(descriptor, "rb") as file:
            yield from _lines(file, passed)


def _lines(file: BinaryIO, passed: Passed | None) -> Iterator[bytes]:
    too_long = False
    while line := file.readline(LONGEST):
        if not line.endswith(b"\n"):
            too_long = True  # or the file's torn end
            continue
        if not too_long:
            yield line
        elif passed is not None:
            passed.lines += 1
        too_long = False


def cut_torn_line(path: Path) -> bool:
    """Take away what stands behind the last whole line: nobody was told that it is written. Whether there was any."""
    with open(open_ours(path, os.O_RDWR), "rb+") as file:
        size = position = file.seek(0, os.SEEK_END)
        while position:
            start = max(0, position - (1 << 16))
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                position = start + found + 1
                break
            position = start
        file.truncate(position)
    return position != size


def _number(part: Path) -> int:
    return int(part.suffix[1:])


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
