"""Ctrl-C and SIGTERM: the run ends in order, and the program without a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from ramure.runtime.run.unblock import Nudge, end_input

if TYPE_CHECKING:
    from ramure.runtime.run.run import Run

__all__ = ["Interruption", "Terminated", "interruptible"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Terminated(SystemExit):
    """SIGTERM, after the run has ended in order. Uncaught, it ends the program with status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interruption:
    """Whether a signal came while a root process ran."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._run: Run | None = None
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.signal: int | None = None
        self._nudge: Nudge | None = None

    @contextlib.contextmanager
    def of_run(self, run: Run) -> Iterator[None]:
        """Signals that come in this block end ``run``."""
        self._run = run
        try:
            yield
        finally:
            self._run = None

    def came(self, number: int) -> None:
        """On the main thread, between two bytecodes: the loop does the rest."""
        first = self.signal is None
        self.signal = number
        if not first:
            # Whoever asks twice is in a hurry: what is left is removed by its leases.
            os.write(2, b"ramure: interrupted again; leaving at once\n")
            os._exit(128 + number)
        self._loop.call_soon_threadsafe(self._cancel)
        self._nudge = Nudge(self._loop)

    def _cancel(self) -> None:
        if self._nudge is not None:
            self._nudge.heard()
        if self.task is not None:
            self.task.cancel()

    async def close(self) -> None:
        """The run has ended: nothing is to keep the program from ending too, if a signal came."""
        if self._nudge is not None:
            try:
                await end_input()
            finally:
                self._nudge.close()


# One place in the process can hold each signal; runs in one program share it, and the last restores it.
_held: dict[int, Any] = {}
_listeners: list[Interruption] = []


class _Wakeup:
    """Has a signal wake the loop. Python runs a handler between two bytecodes of the main thread: for a signal that
    another thread got, or that came just before the loop went to sleep, that is whenever the loop wakes next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        loop.add_reader(self._read, self._drain)
        self._before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        if self._before != -1:  # somebody else's does it
            signal.set_wakeup_fd(self._before)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass

    def close(self) -> None:
        mine = self._write.fileno()
        if (present := signal.set_wakeup_fd(-1)) != mine:  # somebody has set another meanwhile: theirs
            signal.set_wakeup_fd(present)
        self._loop.remove_reader(self._read)
        self._read.close()
        self._write.close()


_wakeup: list[_Wakeup] = []
"""The one that is open, while a signal is held."""


@contextlib.asynccontextmanager
async def interruptible() -> AsyncIterator[Interruption]:
    """While a root process runs, SIGINT and SIGTERM cancel it; then KeyboardInterrupt or :class:`Terminated` is
    raised.

    Only on the main thread, only where the user has set no handler, and what was there is restored.
    """
    interruption = Interruption(asyncio.get_running_loop())
    _take(interruption)
    try:
        yield interruption
    except asyncio.CancelledError:
        if interruption.signal == signal.SIGINT:
            raise _orderly_interrupt() from None
        if interruption.signal == signal.SIGTERM:
            raise Terminated from None
        raise
    finally:
        try:
            await interruption.close()
        finally:
            _release(interruption)


def _take(interruption: Interruption) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    if not _listeners:
        for number in SIGNALS:
            present = signal.getsignal(number)
            if present in (signal.SIG_DFL, signal.default_int_handler) or _is_asyncio(present):
                _held[number] = signal.signal(number, _on_signal)
        if _held:
            _wakeup.append(_Wakeup(interruption._loop))
    _listeners.append(interruption)


def _release(interruption: Interruption) -> None:
    if interruption not in _listeners:
        return
    _listeners.remove(interruption)
    if not _listeners:
        for number, before in _held.items():
            if signal.getsignal(number) is _on_signal:  # else somebody set another meanwhile: theirs
                signal.signal(number, before)
        _held.clear()
        while _wakeup:
            _wakeup.pop().close()


def _on_signal(number: int, frame: FrameType | None) -> None:
    for interruption in _listeners:
        interruption.came(number)


_masks: list[set[int]] = []


def _before_fork() -> None:
    """A signal that a child gets before it has its handlers back must wait: Python would drop it."""
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS if _held else ()))


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    """A forked child has the signals' handlers that were there before: ``Process.terminate()`` ends it."""
    for number, before in _held.items():
        signal.signal(number, before)
    if _wakeup:
        signal.set_wakeup_fd(-1)
    _held.clear()
    _listeners.clear()
    _wakeup.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _is_asyncio(handler: Any) -> bool:
    """asyncio.run's own SIGINT handler, which only cancels the main task."""
    function: Callable[..., Any] = getattr(handler, "func", handler)
    return getattr(function, "__module__", "") == "asyncio.runners"


def _orderly_interrupt() -> KeyboardInterrupt:
    """Ctrl-C, after the run has ended in order. Uncaught, it ends the program as any KeyboardInterrupt does (which
    Python does for that very class only), but without a traceback: there is no defect to look for."""
    interrupt = KeyboardInterrupt()
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if error is not interrupt:
            before(kind, error, traceback)

    sys.excepthook = hook
    return interrupt
