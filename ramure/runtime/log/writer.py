"""The log writer: what somebody waits for is written at once, all else by a thread, many lines at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.actors import Actor
from ramure.executor import account_for, in_thread
from ramure.exits import is_clean
from ramure.masking import get_logger
from ramure.runtime.log.files import LogFiles
from ramure.runtime.run.alarms import LOGS, DiskFull, Room
from ramure.runtime.run.reserve import FULL, NAME, PIECE, Reserve

logger: logging.Logger = get_logger("ramure.runtime")

__all__ = ["URGENT", "LogWriter", "Logs"]

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

KEPT: Final = 1
"""Pieces of the reserve that are for urgent lines alone."""

URGENT: Final = frozenset({"alarm", "alarm_over", "run_ended"})
"""Types of entries of the run's log that do not wait for room."""


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
    seconds the writer fails with :class:`DiskFull`. There is room when the ``reserve`` is whole, too: urgent lines are
    written from it while all others wait, and at the end these are, as far as it goes.
    """

    def __init__(
        self,
        *,
        reserve: Reserve | None = None,
        fsync: bool = False,
        rotate: int | None = None,
        patience: float = 300.0,
        on_room: Callable[[Room], None] = lambda room: None,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._files = LogFiles(fsync=fsync, rotate=rotate)
        self._reserve = reserve or Reserve(Path(), 0)
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
        self._urgent: queue.SimpleQueue[tuple[Path, bytes]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._ending = self._given_up = False
        self._refusal = ""
        """Why the reserve was needed the last time."""
        self._cut: set[Path] = set()
        """Logs that have lost a line: nothing may come after the gap."""
        self._closed = False
        self.lost: int = 0
        """How many lines could not be written, since the writer failed or had ended before them."""
        self._thread = threading.Thread(target=self._work, name="ramure log writer", daemon=True)
        account_for(self._thread)
        self._thread.start()

    def take_reserve(self) -> None:
        """Before the first line; blocks. Raises :class:`DiskFull` where the disk has no room even for that."""
        needed = self._reserve.missing
        try:
            self._reserve.fill()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DiskFull.at_start(str(self._reserve.directory), needed, str(error.strerror).lower()) from error

    # -- on the event loop -----------------------------------------------------------------------------------

    def append_urgent(self, path: Path, line: bytes) -> None:
        """Append a line that does not wait for room: it comes before those that do, and from the reserve. From any
        thread."""
        if threading.get_ident() != self._loop_thread:
            self._loop.call_soon_threadsafe(self.append_urgent, path, line)
        elif self._closed:
            self.lost += 1
        else:
            self._hand_over()
            self._urgent.put((path, line))
            self._wake.set()
            self._batches.put([])

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

    def give_up(self) -> None:
        """The run has failed: wait for room no more. What the reserve has room for is still written."""
        self._given_up = True
        self._wake.set()

    async def close(self) -> None:
        """Write what has been appended, and end. What cannot be written is counted in ``lost``."""
        self._hand_over()
        self._closed = self._ending = True
        self._wake.set()
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
                if batches:
                    self._tell(self._on_written, batches)
                    continue
                self._write_urgent(most=1)  # in its place, where nothing waits
                if self._reserve.missing:  # that needed it
                    self._wait_for_room(self._reserve.directory / NAME, [], self._refusal)
        except Exception as error:
            self._write_last(batches)
            left = sum(len(batch.lines) for batch in batches)
            if left:
                logger.error("%d lines of the logs in %s are lost: %s", left, batches[0].path.parent, error)
            self._tell(self._on_failure, error)
            while (taken := self._batches.get()) is not None:  # the run is ending, and has some last words
                self._write_urgent()
                self._write_last(taken)
            self._write_urgent()
        finally:
            self.lost += self._urgent.qsize()
            self._files.close()
            self._reserve.remove()

    def _write_all(self, path: Path, texts: list[bytes]) -> None:
        try:
            self._files.append(path, texts)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._wait_for_room(path, texts, str(error.strerror).lower())

    def _wait_for_room(self, path: Path, texts: list[bytes], reason: str) -> None:
        """Make the reserve whole again, and write lines, when the disk is full no more."""
        began, pause = time.monotonic(), FIRST_TRY

        def room(full: bool) -> Room:
            needed = max(self._reserve.missing, PIECE) + sum(map(len, texts))
            return Room(LOGS, str(path.parent), full, time.monotonic() - began, reason, needed)

        self._tell(self._on_room, room(True))
        while True:
            self._write_urgent()
            if self._ending and self._write_from_reserve(path, texts, keep=KEPT):
                return
            seconds = time.monotonic() - began
            left = (LAST_WORDS if self._ending else self._patience) - seconds
            if left <= 0 or self._given_up:
                raise DiskFull.for_long(LOGS, str(path.parent), seconds, reason)
            if self._ending:  # there is nothing to wake up for
                time.sleep(min(pause, left))
            elif self._wake.wait(min(pause, left)):
                self._wake.clear()
            pause = min(2 * pause, SLOWEST_TRY)
            try:
                self._reserve.fill()
                self._files.append(path, texts)
            except OSError as error:
                if error.errno not in FULL:
                    raise
            else:
                self._tell(self._on_room, room(False))
                return

    def _write_urgent(self, most: float = math.inf) -> None:
        """Write what does not wait for room, if the reserve lets it."""
        while not self._urgent.empty() and most > 0:
            most -= 1
            path, line = self._urgent.get()
            if not self._write_from_reserve(path, [line]):
                self._urgent.put((path, line))
                return

    def _write_last(self, batches: Sequence[_Batch]) -> None:
        """Write lines when the writer has failed; what cannot be written is lost."""
        for batch in batches:
            if batch.path in self._cut or not self._write_from_reserve(batch.path, batch.lines, keep=KEPT):
                self._cut.add(batch.path)
            self.lost += len(batch.lines)

    def _write_from_reserve(self, path: Path, texts: list[bytes], keep: int = 0) -> bool:
        """Write lines, taking from the reserve what room they need. Whether that was enough."""
        while True:
            try:
                self._files.append(path, texts)
            except OSError as error:
                self._refusal = str(error.strerror).lower()
                if error.errno not in FULL or not self._reserve.spend(sum(map(len, texts)), keep):
                    return False
            else:
                return True

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
    """Makes the run's :class:`Logs` with ``make``, ends when they fail, else closes them at its end. The run closes those that
    have failed."""

    async def init(self, make: Callable[[Callable[[Exception], None]], Logs]) -> None:
        self.trap_exit = True
        me = self.ref
        self.logs: Logs = make(lambda error: me.tell(_Failed(error)))
        try:
            await in_thread(self.logs.take_reserve)
        except BaseException:
            await self.logs.close()
            raise

    def handle_info(self, message: object) -> None:
        match message:
            case _Failed(error=error):
                self.logs.give_up()
                raise error
            case _:
                super().handle_info(message)

    async def terminate(self, reason: object) -> None:
        """What was appended before the end is written. Where this is why the run ends, it has some last words."""
        if is_clean(reason):
            await self.logs.close()
