"""Deadlines of asks, at a price that every ask can pay.

A loop timer for each ask would cost more than the ask. Asks with the same timeout run out in the order
in which they were made, so each timeout value has one insertion-ordered table and one loop timer, which
is armed for the oldest ask only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramure.clock import Clock, TimerHandle
from ramure.errors import AskTimeout

if TYPE_CHECKING:
    from ramure.actors.messages import Ask


class Bucket(dict["Ask", float]):
    """The open asks with one timeout value, oldest first, and when each runs out."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        super().__init__()
        self.clock = clock
        self.timeout = timeout
        self.timer: TimerHandle | None = None

    def arm(self, at: float) -> None:
        self.timer = self.clock.call_later(max(0.0, at - self.clock.monotonic()), self.expire)

    def expire(self) -> None:
        self.timer = None
        now = self.clock.monotonic()
        expired = []
        for ask, due in self.items():
            if due > now:
                self.arm(due)
                break
            expired.append(ask)
        for ask in expired:
            del self[ask]
            if not ask.future.done():
                cell = ask.target
                doing = cell.doing()
                state = "suspended" if cell.state == "suspended" else str(doing) if doing else ""
                ask.future.set_exception(AskTimeout(cell.label, ask.request, self.timeout, state))


class Deadlines:
    """All the open asks of a system that have a timeout."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[float, Bucket] = {}

    def add(self, ask: Ask, timeout: float) -> Bucket:
        """``ask`` runs out in ``timeout`` seconds, unless it is removed from the table returned."""
        bucket = self._buckets.get(timeout)
        if bucket is None:
            if len(self._buckets) > 1000:  # timeouts computed anew for each ask
                self._buckets = {t: b for t, b in self._buckets.items() if b}
            bucket = self._buckets[timeout] = Bucket(self._clock, timeout)
        due = bucket[ask] = self._clock.monotonic() + timeout
        if bucket.timer is None:
            bucket.arm(due)
        return bucket

    def close(self) -> None:
        for bucket in self._buckets.values():
            if bucket.timer is not None:
                bucket.timer.cancel()
        self._buckets.clear()
