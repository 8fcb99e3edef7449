"""What happens to actors, as events: for tests, ``ramure trace`` and statistics.

An actor that nobody watches pays one test of its flags; a watched one has the ``TRACED`` bit and a
:class:`Probe` that passes what happens on to its watchers. After Erlang's ``dbg`` and ``sys``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

from ramure.actors._kernel.cell import DEAD, TRACED, Cell, current_cell
from ramure.actors.messages import Ask, Down, Exit, SysRequest
from ramure.errors import UsageError
from ramure.exits import format_exit
from ramure.faults import failure_of
from ramure.masking import get_logger
from ramure.tracebacks import fold

if TYPE_CHECKING:
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["KINDS", "Probe", "Trace", "TraceEvent", "Watcher"]

logger: logging.Logger = get_logger("ramure.actors")

Kind = Literal["started", "sent", "received", "handled", "replied", "signal", "ended"]
KINDS: Final[tuple[Kind, ...]] = ("started", "sent", "received", "handled", "replied", "signal", "ended")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One thing that happened to ``actor``.

    ``started``: its init is done. ``sent``: ``value``, a message, was put into its mailbox by ``peer``.
    ``received``: it took ``value`` out. ``handled``: it is done with ``value``. ``replied``: the ask
    ``value`` from ``peer`` was settled. ``signal``: an exit signal with reason ``value`` came from
    ``peer``. ``ended``: with reason ``value``. ``peer`` is None when no actor did it. ``at`` is the
    system's clock, in seconds.
    """

    at: float
    kind: Kind
    actor: Ref[Any]
    value: object = None
    peer: Ref[Any] | None = None

    def __str__(self) -> str:
        by = f" from {self.peer!r}" if self.peer is not None else ""
        value = format_exit(self.value) if self.kind in ("signal", "ended") else repr(self.value)
        what = "" if self.kind == "started" else f" {value}"
        return f"{self.at:.6f} {self.actor!r} {self.kind}{what}{by}"


class Watcher(Protocol):
    """What a probe reports to."""

    def event(self, event: TraceEvent) -> None: ...


class Probe:
    """What the kernel calls while an actor has the ``TRACED`` bit."""

    __slots__ = ("_cell", "_now", "_taken", "watchers")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._now = cell.system.clock.monotonic
        self._taken: object = None
        self.watchers: tuple[Watcher, ...] = ()

    def _emit(self, kind: Kind, value: object = None, peer: Cell | Ref[Any] | None = None) -> None:
        ref = peer.ref if isinstance(peer, Cell) else peer
        event = TraceEvent(self._now(), kind, self._cell.ref, value, ref)
        for watcher in self.watchers:
            watcher.event(event)

    def started(self) -> None:
        self._emit("started")

    def sent(self, message: Any) -> None:
        kind = type(message)
        if kind is SysRequest:
            return
        peer = message.sender if kind in (Exit, Down) else current_cell()
        self._emit("sent", message, None if isinstance(peer, str) else peer)
        if kind is Ask:
            message.future.add_done_callback(lambda _: self._emit("replied", message, message.asker))

    def received(self, message: Any) -> None:
        if type(message) is not SysRequest:
            self._taken = message
            self._emit("received", message)

    def handled(self) -> None:
        """The message received last is done with, if there is one."""
        if self._taken is not None:
            message, self._taken = self._taken, None
            self._emit("handled", message)

    def signal(self, sender: Cell | None, reason: object) -> None:
        self._emit("signal", reason, sender)

    def ended(self, reason: object) -> None:
        self._emit("ended", reason)


def watch(cell: Cell, watcher: Watcher) -> None:
    """Have ``watcher`` told what happens to a live actor."""
    if cell.flags & DEAD:
        return
    if cell.probe is None:
        cell.probe = Probe(cell)
    if watcher not in cell.probe.watchers:
        cell.probe.watchers += (watcher,)
    cell.flags |= TRACED
    cell.refresh()


def unwatch(cell: Cell, watcher: Watcher) -> None:
    """Undo :func:`watch`."""
    if cell.probe is None:
        return
    cell.probe.watchers = tuple(w for w in cell.probe.watchers if w is not watcher)
    if not cell.probe.watchers:
        cell.probe = None
        cell.flags &= ~TRACED
        cell.refresh()


class Trace:
    """A running trace: ``async for event in trace``, or :meth:`events`; made by ``system.trace(...)``.

    It keeps the newest ``limit`` events that were not read yet; :attr:`dropped` counts the others. Leave
    its ``with`` block, or call :meth:`stop`, to end it: what is kept can still be read.
    """

    def __init__(
        self,
        system: ActorSystem,
        target: Ref[Any] | Callable[[Ref[Any]], bool] | None,
        kinds: Collection[Kind],
        limit: int,
        callback: Callable[[TraceEvent], object] | None,
    ) -> None:
        unknown = set(kinds) - set(KINDS)
        if unknown or limit < 1:
            raise UsageError(f"trace(kinds={sorted(kinds)}, limit={limit}): limit is 1 or more, kinds are of {KINDS}")
        self.dropped: int = 0
        self._system = system
        self._kinds = frozenset(kinds)
        self._events: deque[TraceEvent] = deque()
        self._limit = limit
        self._callback = callback
        self._reader: asyncio.Future[None] | None = None
        self._running = True
        self._matches: Callable[[Ref[Any]], bool] | None = None
        if target is None or not hasattr(target, "_cell"):
            self._matches = target
            system.tracers.append(self)
            for cell in list(system.cells.values()):
                self.consider(cell)
        else:
            watch(target._cell, self)

    def consider(self, cell: Cell) -> None:
        """An actor starts, or is there when the trace does: is it one to watch?"""
        if self._matches is None or self._matches(cell.ref):
            watch(cell, self)

    def event(self, event: TraceEvent) -> None:
        if event.kind not in self._kinds or not self._running:
            return
        if self._callback is not None:
            self._call(event)
            return
        if len(self._events) >= self._limit:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._wake()

    def _call(self, event: TraceEvent) -> None:
        assert self._callback is not None
        try:
            self._callback(event)
        except BaseException as error:
            failure_of(error)
            logger.error("a trace of %r ends: its callback raised", self._system, exc_info=fold(error))
            self.stop()

    def events(self) -> list[TraceEvent]:
        """What is kept now, oldest first; it stays to be read."""
        return list(self._events)

    def stop(self) -> None:
        """Watch no longer; an ``async for`` ends after what is kept."""
        if self._running:
            self._running = False
            if self in self._system.tracers:
                self._system.tracers.remove(self)
            for cell in self._system.cells.values():
                unwatch(cell, self)
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TraceEvent:
        while not self._events:
            if not self._running:
                raise StopAsyncIteration
            if self._reader is not None:
                raise UsageError("a trace has one reader; start another trace for a second one")
            self._reader = self._system.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._events.popleft()


class Recent:
    """The watcher that keeps an actor's newest messages and signals, as OTP's ``sys:log``."""

    def __init__(self, limit: int) -> None:
        self.events: deque[TraceEvent] = deque(maxlen=limit)

    def event(self, event: TraceEvent) -> None:
        if event.kind in ("received", "replied", "signal"):
            self.events.append(event)


class Counter:
    """The watcher behind :func:`ramure.actors.observe.inspection.statistics`."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.sent: int = 0
        self.handled: int = 0
        self.replied: int = 0
        self.signals: int = 0
        self.busy: float = 0.0
        self.longest: float = 0.0
        self._began = since

    def event(self, event: TraceEvent) -> None:
        match event.kind:
            case "sent":
                self.sent += 1
            case "received":
                self._began = event.at
            case "handled":
                self.handled += 1
                took = event.at - self._began
                self.busy += took
                self.longest = max(self.longest, took)
            case "replied":
                self.replied += 1
            case "signal":
                self.signals += 1
