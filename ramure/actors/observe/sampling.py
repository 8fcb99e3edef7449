"""Which actors are at work. Looked at from outside first, so that of many actors only those pay that are shown.

A thread looks a hundred times a second who is on the event loop (that finds handlers that compute), and a task looks, less
often, who has a message in hand or waiting (that finds those that wait, or take many small ones). The few that are seen
most are then metered exactly, message by message, until they are not among them any more.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from ramure.actors._kernel.cell import Cell
from ramure.actors.observe.tracing import TraceEvent, unwatch, watch
from ramure.executor import in_thread

if TYPE_CHECKING:
    from ramure.actors.system import ActorSystem

__all__ = ["Sample", "Sampler", "Work"]

EVERY: Final = 0.01
"""Seconds between two looks at the event loop, from the thread."""

ROUND: Final = 0.1
"""Seconds between two looks at all actors, at least."""

MOST_OF_THE_LOOP: Final = 0.02
"""The share of the loop's time that looking at all actors may take; with very many it is done less often."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one of the busiest did."""

    handled: float
    """Messages a second that it was done with; 0 until it has been metered."""
    busy: float
    """The share of the time, of 1, that it had a message in hand, waits of its handlers included."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen since the last one."""

    seconds: float
    loop: float | None
    """The share of a core that the event loop's thread used; None where the system does not tell."""
    work: dict[int, Work]
    """By actor number, the busiest."""


class _Meter:
    """A watcher that counts an actor's messages and the time that they take."""

    def __init__(self, began: float | None) -> None:
        self.handled = 0
        self.busy = 0.0
        self._began = began  # the message that it has in hand already, if there is one

    def event(self, event: TraceEvent) -> None:
        if event.kind == "received":
            self._began = event.at
        elif event.kind == "handled":
            self.handled += 1
            self._until(event.at)
            self._began = None

    def take(self, now: float) -> tuple[int, float]:
        if self._began is not None:
            self._until(now)
        handled, busy = self.handled, self.busy
        self.handled, self.busy = 0, 0.0
        return handled, busy

    def _until(self, now: float) -> None:
        if self._began is not None:
            self.busy += now - self._began
            self._began = now


class Sampler:
    """Looks at a system while its ``async with`` block lasts, and meters its ``most`` busiest actors."""

    def __init__(self, system: ActorSystem, most: int = 30) -> None:
        self._system = system
        self._most = most
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"sampler of {system.name}", daemon=True)
        self._seen: Counter[int] = Counter()
        self._in_hand: Counter[int] = Counter()
        self._rounds = 0
        self._meters: dict[int, tuple[Cell, _Meter]] = {}
        self._clock = _thread_clock(threading.get_ident())
        self._began, self._cpu = time.perf_counter(), self._cpu_time()

    async def __aenter__(self) -> Self:
        self._thread.start()
        self._task = asyncio.create_task(self._look_at_all(), name="sampler")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._task.cancel()
        for cell, meter in self._meters.values():
            unwatch(cell, meter)
        await asyncio.wait([self._task])
        await in_thread(self._thread.join)

    def take(self) -> Sample:
        """What was seen since this was called last, or since the start. On the system's loop."""
        now, cpu, rounds = time.perf_counter(), self._cpu_time(), max(1, self._rounds)
        seconds = max(now - self._began, 1e-6)
        work = {}
        for number, (_, meter) in self._meters.items():
            handled, busy = meter.take(self._system.clock.monotonic())
            if handled or busy:
                work[number] = Work(handled / seconds, min(1.0, busy / seconds))
        for number, count in self._in_hand.items():
            if number not in self._meters:
                work[number] = Work(0.0, count / rounds)
        loop = None if cpu is None or self._cpu is None else (cpu - self._cpu) / seconds
        self._meter({number for number, _ in self._seen.most_common(self._most)})
        self._began, self._cpu, self._rounds = now, cpu, 0
        self._seen, self._in_hand = Counter(), Counter()
        return Sample(seconds, loop, work)

    def _meter(self, numbers: set[int]) -> None:
        """Meter these from now on, and no others."""
        for number in self._meters.keys() - numbers:
            unwatch(*self._meters.pop(number))
        for number in numbers - self._meters.keys():
            cell = self._system.cells.get(number)
            if cell is not None:
                now = self._system.clock.monotonic()
                self._meters[number] = cell, _Meter(now if cell.current is not None else None)
                watch(*self._meters[number])

    def _cpu_time(self) -> float | None:
        return None if self._clock is None else time.clock_gettime(self._clock)

    def _watch(self) -> None:
        loop = self._system.loop
        while not self._stop.wait(EVERY):
            running: Any = asyncio.current_task(loop)
            if running is not None:
                cell = running if isinstance(running, Cell) else self._owner(running)
                if cell is not None:
                    self._seen[cell.number] += 1

    def _owner(self, task: asyncio.Task[Any]) -> Cell | None:
        """The actor that a task is of: code beside the handlers, as a process's function."""
        try:
            return next((cell for cell in self._system.cells.values() if cell.tasks and task in cell.tasks), None)
        except RuntimeError:  # they changed while this thread looked: one look less
            return None

    async def _look_at_all(self) -> None:
        while True:
            began = time.perf_counter()
            self._rounds += 1
            for cell in self._system.cells.values():
                if cell.current is not None:
                    self._in_hand[cell.number] += 1
                    self._seen[cell.number] += 1
                elif cell.queue:
                    self._seen[cell.number] += 1
            await asyncio.sleep(max(ROUND, (time.perf_counter() - began) / MOST_OF_THE_LOOP))


def _thread_clock(ident: int) -> int | None:
    get = getattr(time, "pthread_getcpuclockid", None)
    return None if get is None else get(ident)  # not on macOS
