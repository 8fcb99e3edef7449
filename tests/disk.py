"""Disks that fill up: a real one, small, for programs; and one that fails as a full one does, for the log writer alone."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ramure.runtime.log import files as log_files
from ramure.runtime.run import reserve

__all__ = ["FullDisk", "SmallDisk", "can_mount", "small_disk"]


class SmallDisk:
    """A mounted file system with little room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take all room that is left."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[SmallDisk]:
    """Mount a tmpfs of ``size`` on ``path`` (made when missing). For root only: see :func:`can_mount`."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "ramure-tests", str(path)], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def can_mount(directory: Path) -> bool:
    """Whether this user may, here."""
    if os.geteuid() != 0:
        return False
    probe = directory / "probe"
    probe.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "ramure-tests", str(probe)], capture_output=True, check=False)
    if done.returncode == 0:
        subprocess.run(["umount", str(probe)], check=True)
    probe.rmdir()
    return done.returncode == 0


class FullDisk:
    """While ``full``, log files and their reserve have room for ``room`` more bytes; then writes fail as on a full disk. What
    the reserve gives back is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 0) -> None:
        self.full = False
        self.room = room
        self.refused = 0
        self.errno = errno.ENOSPC
        monkeypatch.setattr(log_files, "os", self)
        monkeypatch.setattr(reserve, "os", self)
        unlink = Path.unlink

        def given_back(path: Path, missing_ok: bool = False) -> None:
            size = path.stat().st_size if self.full and path.name.startswith(reserve.NAME) else 0
            unlink(path, missing_ok)
            self.room += size

        monkeypatch.setattr(Path, "unlink", given_back)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, self._fitting(data))

    def pwrite(self, descriptor: int, data: bytes, at: int) -> int:
        return os.pwrite(descriptor, self._fitting(data), at)

    def _fitting(self, data: bytes) -> bytes:
        if self.full:
            data = data[: self.room]
            self.room -= len(data)
            if not data:
                self.refused += 1
                raise OSError(self.errno, os.strerror(self.errno))
        return data
