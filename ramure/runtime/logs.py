"""The log writer: what somebody waits for is written at once, all else by a thread, many lines at a time."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.actors import Actor
from ramure.errors import OperationalError
from ramure.executor import account_for, in_thread
from ramure.masking import get_logger
from ramure.runtime.log_files import FULL, LogFiles

logger = get_logger("ramure.runtime")

__all__ = ["DiskFull", "LogWriter", "Logs", "Room"]

GATHER: Final = 0.02
"""Seconds for which lines that nobody waits for are gathered: the thread costs the event loop a write's time many times."""

SLOW: Final = 0.02
"""Seconds of a write on the event loop after which the disk counts as slow …"""

SLOW_FOR: Final = 5.0
"""… for so many seconds: everything is the thread's then."""

LARGE: Final = 64 * 1024
"""Bytes from which on a write is the thread's."""

FIRST_TRY, SLOWEST_TRY = 0.05, 1.0
"""Seconds between two attempts to write to a full disk: the first ones, and those after a while."""

LAST_WORDS: Final = 3.0
"""Seconds that the end of a run waits for room on a full disk."""


class DiskFull(OperationalError):
    """The disk that the logs are on has had no room for longer than the run was to wait."""

    def __init__(self, path: Path, seconds: float, reason: str) -> None:
        self.path = path
        self.seconds = seconds
        super().__init__(
            f"the logs could not be written for {seconds:.3g} s ({reason}): make room on the disk of {path.parent}, or "
            "give the run another place with log_dir="
        )


@dataclass(frozen=True, slots=True)
class Room:
    """The alarm of a full disk: it began (``full``), or is over. ``seconds``: how long it has lasted."""

    path: Path
    full: bool
    seconds: float
    reason: str


@dataclass(slots=True)
class _Batch:
    """Lines of one log, and whom to tell when they are written."""

    path: Path
    lines: list[bytes]
    written: list[Callable[[], None]]
    size: int = 0


class Logs:
    """The writer of all logs of a run. :meth:`append` may be called from any thread.

    A line that is written is in the operating system's hands, so it survives a SIGKILL of this program; with ``fsync`` the
    disk has it, so it survives a power cut. Lines of one log are written in the order in which they were appended: what
    somebody waits for at once, the rest within 20 ms.

    At once means on the event loop: it is a copy into the system's cache, 2 µs, where a thread there and back takes 50 µs
    or, on a busy host, a millisecond. Whatever could take longer is the thread's: large writes, ``fsync``, and for some
    seconds everything, once a disk has been seen to be slow or full.

    While the disk is full nothing is lost: ``on_room`` is told, lines wait, and go on when there is room; after ``patience``
    seconds the writer fails with :class:`DiskFull`.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        rotate: int | None = None,
        patience: float = 300.0,
        on_room: Callable[[Room], None] = lambda room: None,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._files = LogFiles(fsync=fsync, rotate=rotate)
        self._patience = patience
        self._on_room = on_room
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        # A loop whose time is virtual must not let it jump while the thread writes.
        self._hold_time: Callable[[asyncio.Future[None]], None] | None = getattr(self._loop, "hold_time", None)
        self._gathered: dict[Path, _Batch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._with_thread = 0
        """How many batches are the thread's now: until it has them written, the files are its own."""
        self._slow_until = math.inf if fsync else 0.0
        self._batches: queue.SimpleQueue[list[_Batch] | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._closed = False
        self.lost = 0
        """How many lines could not be written, since the writer failed or had ended before them."""
        self._thread = threading.Thread(target=self._work, name="ramure log writer", daemon=True)
        account_for(self._thread)
        self._thread.start()

    # -- on the event loop -----------------------------------------------------------------------------------

    def append(self, path: Path, line: bytes, written: Callable[[], None] | None = None) -> bool:
        """Append a line, which ends with its only newline. True if it is written; else ``written`` is called when it is,
        on the event loop."""
        if self._closed:
            self.lost += 1
            return False
        if threading.get_ident() != self._loop_thread:
            # It may be about a loop that stands still, so it does not wait for that.
            self._loop.call_soon_threadsafe(self.append, path, line, written)
            return False
        batch = self._gathered.get(path)
        if batch is None:
            batch = self._gathered[path] = _Batch(path, [], [])
        batch.lines.append(line)
        batch.size += len(line)
        if written is not None:
            if not self._with_thread and batch.size < LARGE and self._write_at_once(batch):
                return True
            batch.written.append(written)
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._hand_over)
        return False

    def _write_at_once(self, batch: _Batch) -> bool:
        began = time.perf_counter()
        if began < self._slow_until:
            return False
        try:
            self._files.append(batch.path, batch.lines)
        except OSError:
            return False  # the thread will see the same, and has the time to deal with it
        finally:
            now = time.perf_counter()
            if now - began > SLOW:
                self._slow_until = now + SLOW_FOR
        del self._gathered[batch.path]
        return True

    def _hand_over(self) -> None:
        """Give the thread all that has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            batches = list(self._gathered.values())
            self._gathered.clear()
            self._with_thread += 1
            if self._hold_time is not None:
                held: asyncio.Future[None] = self._loop.create_future()
                self._hold_time(held)
                batches[-1].written.append(lambda: held.set_result(None))
            self._batches.put(batches)

    def _on_written(self, batches: Sequence[_Batch]) -> None:
        self._with_thread -= 1
        for batch in batches:
            for written in batch.written:
                written()

    async def close(self) -> None:
        """Write what has been appended, and end. What cannot be written is counted in ``lost``."""
        self._hand_over()
        self._closed = True
        self._ending.set()
        self._batches.put(None)
        await in_thread(self._thread.join)

    # -- on the thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        batches: list[_Batch] = []
        try:
            while (taken := self._batches.get()) is not None:
                batches = taken
                for batch in batches:
                    self._write_all(batch.path, batch.lines)
                self._tell(self._on_written, batches)
        except Exception as error:
            left = sum(len(batch.lines) for batch in batches)
            logger.error("%d lines of the logs in %s are lost: %s", left, batches[0].path.parent, error)
            self.lost += left
            self._tell(self._on_failure, error)
            while (taken := self._batches.get()) is not None:  # the run is ending, and has some last words
                self.lost += sum(len(batch.lines) for batch in taken)
        finally:
            self._files.close()

    def _write_all(self, path: Path, texts: list[bytes]) -> None:
        began, pause, alarm = time.monotonic(), FIRST_TRY, False
        while True:
            try:
                self._files.append(path, texts)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                seconds = time.monotonic() - began
                reason = str(error.strerror).lower()
                if seconds >= (LAST_WORDS if self._ending.is_set() else self._patience):
                    raise DiskFull(path, seconds, reason) from error
                if not alarm:
                    self._tell(self._on_room, Room(path, True, seconds, reason))
                    alarm = True
                # While it ends there is nothing to wake up for.
                time.sleep(pause) if self._ending.is_set() else self._ending.wait(pause)
                pause = min(2 * pause, SLOWEST_TRY)
            else:
                break
        if alarm:
            self._tell(self._on_room, Room(path, False, time.monotonic() - began, ""))

    def _tell(self, function: Callable[[Any], None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            logger.debug("the event loop was closed before the log writer had ended")


@dataclass(frozen=True, slots=True)
class _Failed:
    """The thread could not go on."""

    error: Exception


class LogWriter(Actor):
    """Owns the run's :class:`Logs`: makes them with ``make``, ends when they fail, and writes the rest at its end."""

    async def init(self, make: Callable[[Callable[[Exception], None]], Logs]) -> None:
        self.trap_exit = True
        me = self.ref
        self.logs = make(lambda error: me.tell(_Failed(error)))

    def handle_info(self, message: object) -> None:
        match message:
            case _Failed(error=error):
                raise error
            case _:
                super().handle_info(message)

    async def terminate(self, reason: object) -> None:
        """What was appended before the end is written."""
        await self.logs.close()
