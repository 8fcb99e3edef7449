"""Ctrl-C while the program waits in a blocking call: in ``input()`` on the event loop's thread, or in a thread.

A signal does not end such a call: Python restarts it when the handler has returned. So on the loop's thread a handler has
to raise, and a thread is only woken by what it waits for.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import queue
import selectors
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import thread as pool
from types import FrameType
from typing import Any, Final

from ramure.tracebacks import is_of_a_carrier, is_ours

__all__ = ["Nudge", "end_input"]

SIGNAL: Final = signal.SIGURG
"""What calls are interrupted with. Who does not handle it ignores it."""

PATIENCE: Final = 0.3
"""Seconds for which the loop's thread may be busy before what it does is interrupted."""

INPUT_ENDS: Final = 2.0
"""Seconds that threads get to see that there is no more input."""

_STANDARD: Final = os.path.join(os.path.dirname(os.__file__), "")
_WARNS: Final = warnings._warn_unawaited_coroutine.__code__  # type: ignore[attr-defined]
_PACKAGES: Final = (os.path.join(_STANDARD, "site-packages", ""), os.path.join(_STANDARD, "dist-packages", ""))


class Nudge:
    """Interrupts what keeps the loop's thread from hearing of a signal. Made in the signal's handler; ``heard`` is called
    by the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heard = False
        self._before: Any = signal.getsignal(SIGNAL)
        if self._before in (signal.SIG_DFL, signal.SIG_IGN):  # else it is the program's
            signal.signal(SIGNAL, self._interrupt)
            # Not threading.Thread: the handler may have interrupted one that holds threading's locks.
            _thread.start_new_thread(self._watch, (threading.get_ident(),))

    def heard(self) -> None:
        """The loop runs."""
        self._heard = True

    def close(self) -> None:
        """Interrupt nothing any more. On the main thread."""
        self._heard = True
        if signal.getsignal(SIGNAL) == self._interrupt:
            signal.signal(SIGNAL, self._before)

    def _watch(self, main: int) -> None:
        while not self._heard:
            time.sleep(PATIENCE)
            if not self._heard:
                signal.pthread_kill(main, SIGNAL)

    def _interrupt(self, _number: int, frame: FrameType | None) -> None:
        if self._heard or not _in_program(frame):
            return
        behind = _behind_warning(frame)
        if behind is None:
            self._cancel()
        elif sys.gettrace() is None:  # else somebody debugs it
            _at_next_line(behind, self._cancel)

    def _cancel(self) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs
            task = asyncio.current_task(self._loop)
            if task is not None:
                task.cancel()  # so that what is raised counts as its cancellation
                raise asyncio.CancelledError("interrupted in a blocking call")


def _behind_warning(frame: FrameType | None) -> FrameType | None:
    """The frame that goes on after Python's warning of a coroutine that was never awaited. What is raised in that warning
    is ignored, and a loop that lacks its ``await`` does hardly anything else."""
    while frame is not None:
        if frame.f_code is _WARNS:
            return frame.f_back
        frame = frame.f_back
    return None


def _at_next_line(place: FrameType, act: Callable[[], None]) -> None:
    """Call ``act``, which may raise, when ``place`` comes to its next line."""

    def trace(_frame: FrameType, _event: str, _argument: Any) -> None:
        place.f_trace = None
        sys.settrace(None)
        act()

    place.f_trace = trace
    sys.settrace(lambda *_: None)


def _in_program(frame: FrameType | None) -> bool:
    """Whether it is the program's own code that runs there, itself or in the standard library; not asyncio's or ours."""
    while frame is not None:
        file = frame.f_code.co_filename
        if is_ours(file) or is_of_a_carrier(file):
            return False
        if file.startswith(_PACKAGES) or not file.startswith((_STANDARD, "<frozen ")):
            return True
        frame = frame.f_back
    return False


async def end_input() -> None:
    """Let threads that wait for standard input see its end: the program could not end before they do. After the run, in
    a program that a signal ends; standard input is as before then."""
    if signal.getsignal(SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN) or not _waiting():
        return
    try:
        saved = os.dup(0)
    except OSError:  # closed: nobody waits for it
        return
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        limit = time.monotonic() + INPUT_ENDS
        while (waiting := _waiting()) and time.monotonic() < limit:
            for thread in waiting:
                with contextlib.suppress(OSError):  # it has ended
                    signal.pthread_kill(thread, SIGNAL)  # a read() that is restarted reads what there is now
            await asyncio.sleep(0.02)
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def _waiting() -> list[int]:
    """The threads that may be in a call and keep the program from ending."""
    frames = sys._current_frames()
    return [
        thread.ident
        for thread in threading.enumerate()
        if thread.ident in frames
        and thread is not threading.main_thread()
        and (not thread.daemon or thread.name.startswith("ramure"))
        and not _idle(frames[thread.ident])
        and thread.is_alive()
    ]


_WAITS: Final = (threading.__file__, queue.__file__, selectors.__file__)
_worker: Callable[..., Any] = pool._worker


def _idle(frame: FrameType) -> bool:
    code = frame.f_code
    return code is _worker.__code__ or (
        code.co_filename in _WAITS and code.co_name != "run"
    )  # whose own call is under way
