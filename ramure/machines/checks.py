"""Which paths and commands are refused, on every machine alike. Pure."""

from __future__ import annotations

import stat
from typing import Final

from ramure.machines.errors import CommandRefused, FileRefused

__all__ = ["check_command", "check_path", "what_it_is"]

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


def what_it_is(mode: int) -> str:
    """Why a file of this mode is refused."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return f"it is a {kinds.get(stat.S_IFMT(mode), 'device')}, not a regular file"
