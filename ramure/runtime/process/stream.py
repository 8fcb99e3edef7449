"""Event streams: what a process or an agent emitted, from the start, for any number of readers."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ramure.errors import OperationalError, UsageError
from ramure.faults import failure_of
from ramure.runtime.process.retry import Retry

__all__ = ["ENDINGS", "Event", "EventStream", "ListenTimeout", "StreamClosed", "Subscription", "is_ending", "tagged"]

ENDINGS: Final = frozenset({"done", "failed", "cancelled"})
"""The types of a process's last event."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a process. ``source`` is None for the process's own events; a bubbled one
    has the tag that it was bubbled with. Two events are equal if these three are."""

    type: str
    data: Any = None
    source: str | None = None
    at: float = field(default=0.0, compare=False, repr=False)
    """When it was emitted: seconds since 1970-01-01 UTC. A bubbled event keeps it."""
    number: int = field(default=-1, compare=False, repr=False)
    """Its place in the stream that it is read from: 0, 1, 2 …"""


def tagged(event: Event, source: str) -> Event:
    """``event`` as it is bubbled: one that has a tag keeps it (an empty one too)."""
    return event if event.source is not None else Event(event.type, event.data, source, event.at)


class StreamClosed(OperationalError):
    """The stream ended without the event that was waited for."""

    def __init__(self, type: str) -> None:
        super().__init__(f"the stream closed without an event of type {type!r}")


class ListenTimeout(OperationalError, TimeoutError):
    """The event that was waited for did not come in time."""

    def __init__(self, type: str, seconds: float) -> None:
        super().__init__(f"no event of type {type!r} within {seconds:g} s")


def text_in(value: object) -> int:
    """The characters of the texts in a value of dicts and lists."""
    found, ahead = 0, [value]
    for part in ahead:  # it grows meanwhile
        if isinstance(part, dict):
            for key, item in part.items():
                if type(key) is str:
                    found += len(key)
                else:
                    ahead.append(key)
                if type(item) is str:
                    found += len(item)
                elif type(item) not in _WITHOUT_TEXT:
                    ahead.append(item)
        elif isinstance(part, str):
            found += len(part)
        elif isinstance(part, list | tuple):
            ahead += part
    return found


_WITHOUT_TEXT: Final = frozenset({int, float, bool, type(None)})


class Subscription:
    """A callback on a stream; ``cancel()`` ends it."""

    def __init__(self, stream: EventStream, callback: Callable[[Event], None]) -> None:
        self._stream = stream
        self.callback = callback

    def cancel(self) -> None:
        """No call after this one. Harmless when repeated."""
        self._stream._subscriptions.pop(self, None)


class EventStream:
    """Iterate with ``async for event in stream``: each iteration begins at the first event, also after the
    stream has closed, and ends when it has. One that has yielded its process's ``failed`` goes on with the events of the
    process that the same task spawned from the same function while it handled that event (the last, of several).

    ``retain`` bounds how many events are kept; a reader that comes (or falls) behind them first gets an
    event of type ``"missed"`` whose data is ``{"count": n}``. Readers never hold up who emits. ``most_text`` bounds the
    characters of text in the events that are kept, until :meth:`retain` is called; the newest is kept, however large it is.
    """

    def __init__(
        self,
        retain: int | None = None,
        tells_end: Callable[[Event], bool] | None = None,
        *,
        most_text: int | None = None,
    ) -> None:
        if retain is not None and retain < 1:
            raise UsageError(f"retain={retain!r}: keep at least 1 event, or None for all")
        self._retain = retain
        self.clock: Callable[[], float] = time.time
        """What says when an event was emitted that does not say so itself (runtime's own)."""
        self.tells_end: Callable[[Event], bool] = tells_end or is_ending
        """Which events say how it ended (runtime's own)."""
        self.function: Any = None
        """The function of the process whose events these are, where a loop may go on with the next try (runtime's own)."""
        self.reading: int = 0
        """Iterations that are under way."""
        self.ever_read: bool = False
        self.ending_read: bool = False
        """True when somebody has read, or been called with, the process's ending."""
        # A deque drops its oldest at no cost; a list is read from its middle at no cost.
        self._events: list[Event] | deque[Event] = [] if retain is None else deque(maxlen=retain)
        self._first = 0  # the number of the oldest event kept
        self._most_text = most_text
        self._sizes: deque[int] | None = None if most_text is None else deque()  # of the events kept
        self._text = 0
        self._closed = False
        self._wakers: set[asyncio.Future[None]] = set()
        self._subscriptions: dict[Subscription, None] = {}
        self._sources: weakref.WeakSet[EventStream] | None = None
        self.on_wait: Callable[[], None] | None = None
        """Called when a reader begins to wait (runtime's own)."""

    def retain(self, limit: int | None) -> None:
        """From now on keep only the newest ``limit`` events (None: all)."""
        if limit is not None and limit < 1:
            raise UsageError(f"retain({limit!r}): keep at least 1 event, or None for all")
        end = len(self)
        self._retain, self._most_text = limit, None
        self._sizes = None
        self._events = list(self._events) if limit is None else deque(self._events, maxlen=limit)
        self._first = end - len(self._events)

    # -- writing (the runtime's side, on the event loop) ------------------------------------------------

    def publish(self, event: Event, size: int | None = None) -> None:
        """Append ``event``, with its number; ignored once the stream is closed. ``size``: the characters of text in its
        data, or more; by default they are counted."""
        if self._closed:
            return
        if event.number < 0:  # it is in no other stream; a copy would take longer than all the rest
            object.__setattr__(event, "number", self._first + len(self._events))
            if not event.at:
                object.__setattr__(event, "at", self.clock())
        else:
            event = Event(
                event.type, event.data, event.source, event.at or self.clock(), self._first + len(self._events)
            )
        if self._most_text is not None:
            self._make_room(text_in(event.data) if size is None else size, self._most_text)
        elif len(self._events) == self._retain:
            self._first += 1
        self._events.append(event)
        if self._wakers:
            self._wake()
        for subscription in list(self._subscriptions) if self._subscriptions else ():
            if subscription in self._subscriptions:
                subscription.callback(event)

    def _make_room(self, size: int, most: int) -> None:
        """Drop the oldest events until one with so much text can be kept as well."""
        assert self._sizes is not None
        while self._sizes and (len(self._sizes) == self._retain or self._text + size > most):
            self._text -= self._sizes.popleft()
            del self._events[0]
            self._first += 1
        self._sizes.append(size)
        self._text += size

    def take_from(self, source: EventStream) -> bool:
        """Note that what ``source`` gets comes here too (runtime's own). False, and nothing noted, where what comes here
        goes into ``source`` already: events would go round for ever."""
        if source.has_in_it(self):
            return False
        if self._sources is None:
            self._sources = weakref.WeakSet()
        self._sources.add(source)
        return True

    def takes(self, source: EventStream) -> bool:
        """True if the events of ``source`` are bubbled to here (runtime's own)."""
        return source in (self._sources or ())

    def has_in_it(self, other: EventStream) -> bool:
        """True if ``other`` is this stream, or its events come here by whatever way."""
        looked_at, ahead = {self}, [self]
        while ahead:
            stream = ahead.pop()
            if stream is other:
                return True
            for source in stream._sources or ():
                if source not in looked_at and not source.closed:
                    looked_at.add(source)
                    ahead.append(source)
        return False

    def close(self) -> None:
        """No more events will come."""
        self._closed = True
        self._subscriptions.clear()
        self._wake()

    def _wake(self) -> None:
        if not self._wakers:
            return
        wakers, self._wakers = self._wakers, set()
        for waker in wakers:
            if not waker.done():
                waker.set_result(None)

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """True when no more events will come."""
        return self._closed

    @property
    def readers(self) -> frozenset[asyncio.Future[None]]:
        """What the readers that wait now wait for."""
        return frozenset(self._wakers)

    def __len__(self) -> int:
        """How many events there were so far, kept or not."""
        return self._first + len(self._events)

    def snapshot(self) -> tuple[Event, ...]:
        """The events kept so far, oldest first."""
        self.ending_read = self.ending_read or self._closed
        return tuple(self._events)

    def subscribe(self, callback: Callable[[Event], None], *, replay: bool = False) -> Subscription:
        """Call ``callback(event)`` on the event loop for each event from now on (``replay``: from the first
        kept one on), in the context of the code that subscribes. It must not block. An exception that it raises is
        logged, and ends nothing."""
        given: Any = callback
        if not callable(given) or inspect.iscoroutinefunction(given):
            raise UsageError(
                f"subscribe({callback!r}): give a plain function; for what waits, use start_task(...) in it"
            )
        context = contextvars.copy_context()
        self.begin_reading()
        self.ending_read = self.ending_read or (replay and self._closed)

        def read(event: Event) -> None:
            self.ending_read = self.ending_read or self.tells_end(event)
            context.copy().run(callback, event)  # a copy: one call may lead to another

        return self.watch(functools.update_wrapper(read, callback, ()), replay=replay)

    def watch(self, callback: Callable[[Event], None], *, replay: bool = False) -> Subscription:
        """As :meth:`subscribe`, for the runtime: it is no reader."""
        subscription = Subscription(self, _guarded(callback))
        if replay:
            for event in list(self._events):
                subscription.callback(event)
        if not self._closed:
            self._subscriptions[subscription] = None
        return subscription

    async def listen_for(
        self, type: str, *, timeout: float | None = None, where: Callable[[Event], bool] | None = None
    ) -> Event:
        """The first event of ``type`` (for which ``where(event)`` holds), past or to come.

        Raises :class:`ListenTimeout` after ``timeout`` seconds and :class:`StreamClosed` when the stream
        ends without one.
        """
        try:
            async with asyncio.timeout(timeout):
                async for event in self:
                    if event.type == type and (where is None or where(event)):
                        return event
        except TimeoutError:
            raise ListenTimeout(type, timeout or 0.0) from None
        raise StreamClosed(type)

    async def __aiter__(self) -> AsyncIterator[Event]:
        stream, position = self, 0
        stream.begin_reading()
        try:
            while True:
                if position < stream._first:
                    missed = stream._first - position
                    position = stream._first
                    yield Event("missed", {"count": missed}, None, stream.clock(), position - 1)
                    continue
                if position < stream._first + len(stream._events):
                    event = stream._events[position - stream._first]
                    position += 1
                    stream.ending_read = stream.ending_read or stream.tells_end(event)
                    if event.type != "failed" or event.source is not None or stream.function is None:
                        yield event
                        continue
                    retry = Retry(stream.function)
                    try:
                        yield event
                    finally:
                        again = retry.over()
                    if again is not None:
                        stream.reading -= 1
                        stream, position = again, 0
                        stream.begin_reading()
                elif stream._closed:
                    return
                else:
                    waker = asyncio.get_running_loop().create_future()
                    stream._wakers.add(waker)
                    if stream.on_wait is not None:
                        stream.on_wait()
                    try:
                        await waker
                    finally:
                        stream._wakers.discard(waker)
        finally:
            stream.reading -= 1

    def begin_reading(self) -> None:
        """An iteration begins (runtime's own)."""
        self.reading += 1
        self.ever_read = True


def is_ending(event: Event) -> bool:
    """True for the last event of a process's stream."""
    return event.source is None and event.type in ENDINGS


def _guarded(callback: Callable[[Event], None]) -> Callable[[Event], None]:
    def call(event: Event) -> None:
        try:
            callback(event)
        except BaseException as error:
            error = failure_of(error)
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the subscriber {inspect.unwrap(callback)!r} raised on {event!r}", "exception": error}
            )

    return call
