"""The event loop of a simulated run: virtual time, a seeded order of tasks, no threads, and a network in memory.

Nothing from outside reaches such a loop, so that one seed is one run: blocking calls of the runtime run at once on the
loop's own thread, sockets are :mod:`ramure.testing.simulation.network`'s, and time goes on only by timers.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack

from ramure.runtime.stalls.watch import Stalls
from ramure.testing.simulation.network import MemoryServer, MemoryTransport, Network
from ramure.testing.virtual import DeadlockError, VirtualLoop, describe_waits, is_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextvars import Context

__all__ = ["Order", "SimulationLoop", "Stuck"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DELAYS = (0.0005, 0.02)
"""Seconds, at least and at most, that bytes take over the network."""

LONG: Final = 60.0
"""Seconds of a timer that is no heartbeat's: somebody waits for it. (The run's own look for stalled processes does not.)"""


class Stuck(DeadlockError):
    """A simulated run does not come to an end. ``why`` is one line."""

    def __init__(self, why: str, waits: str) -> None:
        self.why: str = why
        super().__init__(f"{why}\n{waits}")


class Order:
    """Which of the tasks that are ready together runs next, and how long bytes take: drawn from a seed.

    Between the steps ``first`` and ``last`` only; before and after, tasks run in the order in which they became ready, and
    every byte takes as long. That is how a schedule is made smaller.
    """

    def __init__(self, seed: int, first: int = 0, last: int | None = None) -> None:
        self._random = random.Random(f"order of {seed}")
        self._network = random.Random(f"network of {seed}")
        self.first: int = first
        self.last: int | None = last
        self.steps: int = 0
        """How many choices there were."""

    @property
    def is_drawn(self) -> bool:
        """Whether chance decides now."""
        return self.steps >= self.first and (self.last is None or self.steps < self.last)

    def choose(self, candidates: int) -> int:
        """One of 0 … candidates - 1."""
        chosen = self._random.randrange(candidates)
        drawn = self.is_drawn
        self.steps += 1
        return chosen if drawn else 0

    def delay(self) -> float:
        """Seconds that bytes take."""
        least, most = DELAYS
        drawn = self._network.uniform(least, most)
        return drawn if self.is_drawn else least


class SimulationLoop(VirtualLoop):
    """``limit``: virtual seconds in all; ``quiet``: without a sign of progress; ``max_turns``: of the loop."""

    def __init__(self, order: Order, *, limit: float, quiet: float, max_turns: int) -> None:
        super().__init__(limit=limit)
        self.order: Order = order
        self.turns: int = 0
        self.progress_at: float = 0.0
        self.network: Network = Network(self, order.delay)
        self._quiet = quiet
        self._max_turns = max_turns
        self._ready: deque[asyncio.Handle] = _DrawnQueue(order)
        self._long: list[asyncio.TimerHandle] = []

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > self._max_turns:
            raise Stuck(f"it has not ended after {self._max_turns} turns of the event loop", describe_waits(self))
        super()._run_once()  # type: ignore[misc]

    def give_up(self, turns: int = 50_000) -> None:
        """It is stuck: what follows is its cleanup, which gets so many turns."""
        self._limit, self._quiet, self._max_turns = self._now + 3600.0, 3600.0, self.turns + turns
        self.progress_at = self._now

    # -- nothing comes from outside

    def listens(self) -> bool:
        """For signals, now and then: each look is a system call."""
        return self.turns % 64 == 0

    def patience(self) -> float:
        """Nothing is worth waiting for in real time."""
        return 0.0

    def wait_for_ever(self) -> float:
        """No timer is set, so nothing can happen any more."""
        raise Stuck("nothing can happen any more", describe_waits(self))

    def jump(self) -> None:
        """Go on to the next timer. Raises :class:`Stuck` past one of the limits."""
        due = self._scheduled[0].when()
        if due > self._limit:
            raise Stuck(f"it has not ended after {self._limit:g} virtual seconds", describe_waits(self))
        if due - self.progress_at > self._quiet and not self._somebody_waits_long():
            raise Stuck(f"nothing has happened for {self._quiet:g} virtual seconds", describe_waits(self))
        super().jump()

    def _somebody_waits_long(self) -> bool:
        """Whether a timer is set that is longer than those of heartbeats: when it is due, something may happen."""
        due = [timer for timer in self._long if timer.when() <= self._now]
        self._long = [timer for timer in self._long if timer.when() > self._now and not timer.cancelled()]
        if due:  # what has begun with one gets its time
            self.progress_at = self._now
        return bool(due or self._long)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        if when - self._now > LONG and not isinstance(getattr(callback, "__self__", None), Stalls):
            self._long.append(timer)
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call it now: a blocking call takes no virtual time."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # -- the network

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """A server of the network in memory; the socket that was bound for it is only its address."""
        return MemoryServer(self.network, protocol_factory, [options["sock"]])

    async def create_unix_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """One that nobody connects to."""
        return MemoryServer(self.network, protocol_factory, [options["sock"]])

    async def create_connection(
        self, protocol_factory: Any, host: str | None = None, port: int | None = None, **options: Any
    ) -> tuple[MemoryTransport, Any]:
        """A connection within the network in memory."""
        await asyncio.sleep(self.order.delay())
        return self.network.connect(protocol_factory, port or 0)


class _DrawnQueue(deque[asyncio.Handle]):
    """The loop's queue of ready callbacks: of the steps of tasks at its head, any may come first."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order

    def popleft(self) -> asyncio.Handle:
        """The next callback. At most 32 of them are drawn from, which bounds what a step costs."""
        candidates, most = 0, min(len(self), 32)
        while candidates < most and is_step(self[candidates]):
            candidates += 1
        if candidates < 2:
            return super().popleft()
        chosen = self._order.choose(candidates)
        if chosen == 0:
            return super().popleft()
        handle = self[chosen]
        del self[chosen]
        return handle
