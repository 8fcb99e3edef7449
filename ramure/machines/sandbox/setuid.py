"""Take the setuid and setgid bits from files that a sandbox left in a directory of the user's. Blocking."""

from __future__ import annotations

import os
import stat
from typing import Final

__all__ = ["strip_setuid"]

BITS: Final = stat.S_ISUID | stat.S_ISGID


def strip_setuid(directory: str, since: float) -> list[str]:
    """Take the bits from the regular files below ``directory`` whose status changed at ``since`` (seconds since 1970) or
    later, and return their paths. Symbolic links are not followed. Nobody may change the directory meanwhile.

    A program cannot set the time of a status change back, so that files of before keep their bits.
    """
    stripped: list[str] = []
    for place, _, names, descriptor in os.fwalk(directory, follow_symlinks=False):
        for name in names:
            try:
                if _strip(name, descriptor, since):
                    stripped.append(os.path.join(place, name))
            except (FileNotFoundError, PermissionError):
                continue  # another user's, who may do with it what they like
    return stripped


def _strip(name: str, directory: int, since: float) -> bool:
    seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not (stat.S_ISREG(seen.st_mode) and seen.st_mode & BITS and seen.st_ctime >= since):
        return False
    file = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            return False
        os.chmod(
            f"/proc/self/fd/{file}", stat.S_IMODE(mode) & ~BITS
        )  # fchmod refuses O_PATH, and reading may be forbidden
    finally:
        os.close(file)
    return True
