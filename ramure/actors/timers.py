"""Timers that send messages: Erlang's ``send_after``, with seconds for milliseconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ramure.clock import TimerHandle
from ramure.errors import UsageError

if TYPE_CHECKING:
    from ramure.actors._kernel.cell import Cell
    from ramure.actors.system import ActorSystem

__all__ = ["Timer"]

_running_loop = asyncio._get_running_loop


class Timer:
    """A message on its way in time. It is cancelled when its receiver ends."""

    __slots__ = ("_cell", "_due", "_handle", "_interval", "_message", "_name", "_system")

    def __init__(
        self, system: ActorSystem, target: Cell | str, message: object, delay: float, interval: float | None = None
    ) -> None:
        if not delay >= 0 or (interval is not None and not interval > 0):
            raise UsageError(f"a timer's delay must be 0 or more seconds, and an interval more than 0: got {delay!r}")
        self._system = system
        self._name = target if isinstance(target, str) else None
        self._cell: Cell | None = None if isinstance(target, str) else target
        self._message = message
        self._interval = interval
        self._due = system.clock.monotonic() + delay
        self._handle: TimerHandle | None = system.clock.call_later(delay, self._fire)
        if self._cell is not None:
            if self._cell.dead:
                self.cancel()
                return
            if self._cell.timers is None:
                self._cell.timers = {}
            self._cell.timers[self] = None

    def cancel(self) -> float | None:
        """Cancel; returns the seconds that were left, or None when it had fired or was cancelled before.
        A message that has already arrived stays in the mailbox (``erlang:cancel_timer/1``)."""
        if _running_loop() is not self._system.loop:
            return self._system.call(self.cancel)
        if self._handle is None:
            return None
        self._handle.cancel()
        self._forget()
        return max(0.0, self._due - self._system.clock.monotonic())

    def time_left(self) -> float | None:
        """Seconds until it fires, or None (``erlang:read_timer/1``)."""
        return None if self._handle is None else max(0.0, self._due - self._system.clock.monotonic())

    def _forget(self) -> None:
        self._handle = None
        if self._cell is not None and self._cell.timers:
            self._cell.timers.pop(self, None)

    def _fire(self) -> None:
        target = self._cell if self._name is None else self._system.names.get(self._name)
        if self._interval is None or self._system.closing:
            self._forget()
        else:
            self._due += self._interval
            wait = max(0.0, self._due - self._system.clock.monotonic())
            self._handle = self._system.clock.call_later(wait, self._fire)
        if target is not None:
            target.deliver_from_outside(self._message)

    def __repr__(self) -> str:
        left = self.time_left()
        what: Any = self._name or self._cell
        return f"<Timer for {what!r}: {'done' if left is None else f'{left:.3f} s left'}>"
