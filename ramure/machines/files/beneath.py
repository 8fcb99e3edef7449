"""Files of this host that are reached only beneath a folder, by descriptor: what an agent swaps meanwhile leads nowhere else.

Each name of a path is opened in the directory before it, never through a link; a link is read, and its target's names are
opened the same way. So nothing is checked first and opened later. (Python has no ``openat2`` with ``RESOLVE_BENEATH``.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Final

from ramure.machines.checks import check_path, check_size, what_it_is
from ramure.machines.errors import FileRefused, NoSuchFile, OutsideFolder, WorkdirGone

__all__ = ["Identity", "identity", "read", "write"]

Identity = tuple[int, int]
"""Device and inode of a directory."""

LINKS: Final = 40
"""Links that one path may lead through, as in Linux."""

_DIRECTORY: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def identity(directory: str) -> Identity:
    """Which directory this is, whatever its path will lead to later."""
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def read(workdir: str, known: Identity, folder: str, path: str, limit: int) -> bytes:
    """As :meth:`Machine.read_within`; blocks. ``known`` is what ``workdir`` was when the machine was made."""
    check_path(path)
    with _Walk(workdir, known, folder, path, make=False) as walk:
        descriptor = walk.file(os.O_RDONLY)
        with open(descriptor, "rb") as file:
            check_size(path, os.fstat(descriptor).st_size, limit)
            data: bytes | None = file.read(limit + 1)
    if data is None:  # one of the kernel's, such as /proc/kmsg
        raise FileRefused(path, "it has nothing to read yet, and a read would wait for more")
    check_size(path, len(data), limit)
    return data


def write(workdir: str, known: Identity, folder: str, path: str, data: bytes) -> None:
    """As :meth:`Machine.write_within`; blocks."""
    check_path(path)
    with (
        _Walk(workdir, known, folder, path, make=True) as walk,
        open(walk.file(os.O_WRONLY | os.O_CREAT), "wb") as file,
    ):
        file.truncate()
        file.write(data)


class _Outside(Exception):
    """A path leads out of its directory."""


class _Walk:
    """The way to a file: descriptors of the directories that lead to it, the folder's first."""

    def __init__(self, workdir: str, known: Identity, folder: str, path: str, *, make: bool) -> None:
        self._workdir, self._known, self._folder, self._path, self._make = workdir, known, folder, path, make
        self._stack: list[int] = []
        self._spelled: list[str] = []
        """How an absolute path to the folder begins."""
        self._links = 0

    def __enter__(self) -> _Walk:
        try:
            self._enter_folder()
        except BaseException as error:
            self._close()
            self._explain(error)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._close()
        self._explain(error)

    def _close(self) -> None:
        while self._stack:
            os.close(self._stack.pop())

    def _explain(self, error: BaseException | None) -> None:
        """Raise the machine's error for one of the system's, or of ours."""
        match error:
            case FileRefused():
                return
            case _Outside():
                raise OutsideFolder(self._path, self._shown()) from None
            case FileNotFoundError():
                raise NoSuchFile(self._path) from error
            case OSError():
                raise FileRefused(self._path, error.strerror or str(error)) from error

    def _shown(self) -> str:
        return os.path.normpath(os.path.join(self._workdir, self._folder))

    def _enter_folder(self) -> None:
        """The folder may be one that agents can write beside: where it is in the working directory, no link leads out."""
        inside = _below(self._folder, [self._workdir, os.path.realpath(self._workdir)])
        if inside is None:
            if self._make:
                os.makedirs(self._folder, exist_ok=True)
            self._start(os.path.realpath(self._folder), [self._folder])
            return
        gone = WorkdirGone(f"this host in {self._workdir}", self._workdir)
        try:
            self._start(self._workdir, [])
        except FileNotFoundError as error:
            raise gone from error
        if _same(self._stack[0]) != self._known:  # another directory, or a link, has taken its place
            raise gone
        self._follow(deque(inside), last=False)
        while len(self._stack) > 1:  # the way up from the folder is closed
            os.close(self._stack.pop(0))
        self._spelled = [os.path.normpath(os.path.join(root, *inside)) for root in self._spelled]

    def _start(self, directory: str, spelled: list[str]) -> None:
        self._stack.append(os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW))
        self._spelled = [directory, os.path.realpath(directory), *spelled]

    def file(self, flags: int) -> int:
        """A descriptor of the regular file at the path, which its user closes."""
        descriptor = self._follow(self._parts(self._path), last=True, flags=flags)
        if descriptor is None:
            raise FileRefused(self._path, what_it_is(stat.S_IFDIR))
        return descriptor

    def _parts(self, path: str) -> deque[str]:
        parts = _below(path, self._spelled)
        if parts is None:
            raise _Outside
        if path.startswith("/"):
            while len(self._stack) > 1:
                os.close(self._stack.pop())
        return deque(parts)

    def _follow(self, parts: deque[str], *, last: bool, flags: int = 0) -> int | None:
        """Walk these names; where the last is that of a file, its descriptor."""
        while parts:
            name = parts.popleft()
            if name == "..":
                if len(self._stack) == 1:
                    raise _Outside
                os.close(self._stack.pop())
            elif (to := self._link(name)) is not None:
                self._links += 1
                if self._links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                parts = self._parts(to) + parts
            elif parts or not last:
                self._descend(name, parts)
            else:
                descriptor = self._open(name, flags)
                if descriptor is not None:
                    return descriptor
                parts.append(name)  # it has just become a link
        return None

    def _link(self, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=self._stack[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def _descend(self, name: str, parts: deque[str]) -> None:
        above = self._stack[-1]
        try:
            self._stack.append(os.open(name, _DIRECTORY, dir_fd=above))
        except FileNotFoundError:
            if not self._make:
                raise
            try:
                os.mkdir(name, dir_fd=above)
            except FileExistsError:
                self._again()
            parts.appendleft(name)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR) or self._link(name) is None:
                raise
            self._again()
            parts.appendleft(name)  # it has just become a link

    def _again(self) -> None:
        """What is there changes while we look: not for ever."""
        self._links += 1
        if self._links > LINKS:
            raise OSError(errno.EAGAIN, "what is there changes all the time")

    def _open(self, name: str, flags: int) -> int | None:
        """None if it has just become a link. What is no regular file is not even opened: that may wait, or do something."""
        above = self._stack[-1]
        try:
            self._regular(os.lstat(name, dir_fd=above).st_mode)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        try:
            descriptor = os.open(name, flags | _FILE, 0o666, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                self._again()
                return None
            if error.errno in (errno.ENXIO, errno.EISDIR):
                self._regular(os.lstat(name, dir_fd=above).st_mode)
            raise
        try:
            self._regular(os.fstat(descriptor).st_mode)
        except FileRefused:
            os.close(descriptor)
            raise
        return descriptor

    def _regular(self, mode: int) -> None:
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise FileRefused(self._path, what_it_is(mode))


def _same(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _below(path: str, folders: list[str]) -> list[str] | None:
    """The names that lead from one of the folders to the path (``..`` among them); None where it does not begin there."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not path.startswith("/"):
        return names
    for folder in folders:
        start = [name for name in folder.split("/") if name not in ("", ".")]
        if names[: len(start)] == start:
            return names[len(start) :]
    return None
