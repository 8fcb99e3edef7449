"""Notices that something blocks the event loop, and shows what.

A thread looks at the loop's own thread a few times in each period. It sends nothing to the loop, so one that is
idle stays so; it recognises the callback that runs by its frame. Works with asyncio's own loops.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

from ramure.executor import account_for

__all__ = ["BLOCKED_AFTER", "Watchdog"]

BLOCKED_AFTER: Final = 2.0
"""Seconds without a turn of the loop that are worth a warning."""

_CALLBACK: Final = asyncio.Handle._run.__code__


class Watchdog:
    """Calls ``blocked(seconds, stack)`` on its thread, once for each callback that runs longer than ``after``
    seconds. Start it on the loop's thread."""

    def __init__(self, blocked: Callable[[float, str], None], after: float = BLOCKED_AFTER) -> None:
        self._blocked = blocked
        self._after = after
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch the loop of the current thread."""
        watched = threading.get_ident()
        thread = threading.Thread(target=self._watch, args=(watched,), name="ramure watchdog", daemon=True)
        account_for(thread)
        thread.start()

    def stop(self) -> None:
        """Watch no longer; the thread ends soon."""
        self._stopped.set()

    def _watch(self, watched: int) -> None:
        callback: FrameType | None = None
        since, told = 0.0, False
        while not self._stopped.wait(self._after / 4):
            frames = _frames(sys._current_frames().get(watched))
            now = time.monotonic()
            running = next((frame for frame in frames if frame.f_code is _CALLBACK), None)
            if running is None or running is not callback:
                callback, since, told = running, now, False
            elif not told and now - since >= self._after:
                told = True
                stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in reversed(frames))
                self._blocked(now - since, "".join(stack.format()))
            del frames, running  # a frame keeps alive what its function had


def _frames(frame: FrameType | None) -> list[FrameType]:
    """This frame and those of its callers, innermost first.

    The thread may run on meanwhile. CPython 3.11 was seen to return another object as the caller of a frame that had just
    ended (an instance of a class of ours, once in eight minutes at full load): the list ends there.
    """
    found: list[FrameType] = []
    caller: object = frame
    while isinstance(caller, FrameType):
        found.append(caller)
        caller = caller.f_back
    return found
