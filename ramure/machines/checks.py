"""Which paths and commands are refused, on every machine alike. Pure."""

from __future__ import annotations

import posixpath
import stat
from typing import Final

from ramure.machines.errors import CommandRefused, FileRefused, OutsideFolder

__all__ = ["check_command", "check_path", "check_size", "named_within", "what_it_is"]

NAME_LIMIT: Final = 255
PATH_LIMIT: Final = 4095
"""Bytes of a name, and of a path: Linux's own limits."""


def check_path(path: str) -> bytes:
    """The path as bytes. Raises :class:`FileRefused` for what no machine has a file at."""
    if not path:
        raise FileRefused(path, "the path is empty")
    if "\0" in path:
        raise FileRefused(path, "it holds a NUL byte")
    try:
        encoded = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FileRefused(path, "it cannot be encoded: it holds half of a character") from None
    if path.endswith("/"):
        raise FileRefused(path, "it ends in '/', so it is a directory, not a regular file")
    if len(encoded) > PATH_LIMIT or max(map(len, encoded.split(b"/"))) > NAME_LIMIT:
        raise FileRefused(path, "File name too long")
    return encoded


def check_command(command: str) -> bytes:
    """The command as bytes. Raises :class:`CommandRefused` for what no shell can be given."""
    if "\0" in command:
        raise CommandRefused(command, "it holds a NUL byte")
    try:
        return command.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise CommandRefused(command, "it cannot be encoded: it holds half of a character") from None


def check_size(path: str, size: int, limit: int) -> None:
    """Raise FileRefused for a file of more bytes than ``limit``."""
    if size > limit:
        raise FileRefused(path, f"it has {size} bytes; at most {limit} can be passed on")


def named_within(workdir: str, folder: str, path: str) -> str:
    """The full path of a file in a folder, where there are no links. Raises OutsideFolder."""
    root = posixpath.normpath(posixpath.join(workdir, folder))
    full = posixpath.normpath(posixpath.join(root, path))
    if not full.startswith(root.rstrip("/") + "/"):
        raise OutsideFolder(path, root)
    return full


def what_it_is(mode: int) -> str:
    """Why a file of this mode is refused."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return f"it is a {kinds.get(stat.S_IFMT(mode), 'device')}, not a regular file"
