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
            innermost = sys._current_frames().get(watched)
            now = time.monotonic()
            running = _running_callback(innermost)
            if running is None or running is not callback:
                callback, since, told = running, now, False
            elif not told and now - since >= self._after:
                told = True
                self._blocked(now - since, "".join(traceback.format_stack(innermost)))
            del innermost, running  # a frame keeps alive what its function had


def _running_callback(frame: FrameType | None) -> FrameType | None:
    """The frame of the loop's callback that is running, if one is."""
    while frame is not None and frame.f_code is not _CALLBACK:
        frame = frame.f_back
    return frame
