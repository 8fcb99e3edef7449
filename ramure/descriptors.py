"""The budget of descriptors: this program's soft limit is raised, and what it starts gets the limit that there was.

Each agent takes a few descriptors, and the usual soft limit of 1,024 is a few hundred agents. Commands keep the usual one:
programs that use ``select()`` break above it.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from typing import Final

__all__ = ["raise_limit", "usual_limit"]

WANTED: Final = 65_536
"""The soft limit of descriptors that a run asks for, where the hard limit allows it."""

_usual: list[tuple[int, int]] = []  # soft and hard limit, before they were raised


def raise_limit() -> int:
    """Raise this program's soft limit of descriptors, as far as it may; the limit now.

    Each agent takes a few. What is started on a machine gets the limit that there was: :func:`usual_limit`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    with contextlib.suppress(ValueError, OSError):  # macOS has a limit that it does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _usual[:] = [(soft, hard)]
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def usual_limit(pid: int) -> None:
    """Give a child the limit of descriptors that this program had before it raised its own. (Linux)"""
    if _usual and sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has ended, or may do more than we
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _usual[0])
