"""A mailbox that is read selectively: Erlang's ``receive``, for code that is a task and not a handler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ramure.actors._kernel.cell import EMPTY
from ramure.errors import OperationalError, UsageError
from ramure.faults import failure_of

if TYPE_CHECKING:
    from ramure.clock import Clock

__all__ = ["Inbox", "ReceiveTimeout", "Selective", "matcher"]

Match = Callable[[Any], bool]


class ReceiveTimeout(OperationalError, TimeoutError):
    """No matching message came in time."""

    def __init__(self, label: str, pattern: object, seconds: float) -> None:
        super().__init__(f"{label} received nothing that matches {pattern!r} within {seconds:g} s")


def matcher(pattern: object) -> Match:
    """What a ``receive`` pattern means: a type or tuple of types, a predicate, a value, or None for anything."""
    if pattern is None:
        return lambda message: True
    if isinstance(pattern, (type, tuple)):  # as isinstance takes them
        types = pattern
        return lambda message: isinstance(message, types)
    if callable(pattern):
        return pattern
    return lambda message: bool(message == pattern)


class Labelled(Protocol):
    """An actor or a process."""

    @property
    def label(self) -> str: ...


class Selective:
    """A queue that is read selectively, by at most one reader at a time.

    A message stays in its place until the reader itself takes it: a reader that was cancelled, or whose time was up,
    has taken nothing.
    """

    queue: deque[Any]
    receiver: tuple[Match, asyncio.Future[Any]] | None = None
    """What the reader waits for, and the future that wakes it."""

    def offer(self, message: Any) -> None:
        """Wake the reader if it waits for ``message``, which has just been queued."""
        if self.receiver is None:
            return
        match, future = self.receiver
        if future.done():
            return
        try:
            if match(message):
                future.set_result(message)
        except BaseException as error:  # the reader's predicate: raised there, not in the sender
            future.set_exception(failure_of(error))

    async def receive(self, pattern: object, timeout: float | None, owner: Labelled, clock: Clock) -> Any:
        """See :func:`ramure.actors.receive`. ``owner`` is named in errors."""
        match = matcher(pattern)
        found, message = self._take(match)
        if found:
            return message
        if timeout is not None and timeout <= 0:
            raise ReceiveTimeout(owner.label, pattern, timeout)
        if self.receiver is not None:
            raise UsageError(f"two receive() at once in {owner.label}: a mailbox has one reader")
        future = self._wait(match)
        timer = None
        if timeout is not None:
            error = ReceiveTimeout(owner.label, pattern, timeout)
            timer = clock.call_later(timeout, lambda: None if future.done() else future.set_exception(error))
        try:
            while not self._take_this(message := await future):  # a full mailbox or another reader has taken it out
                found, message = self._take(match)
                if found:
                    return message
                future = self._wait(match)
            return message
        finally:
            if timer is not None:
                timer.cancel()
            self.receiver = None

    def waits(self) -> None:
        """The reader begins to wait."""

    def taken(self, message: Any) -> None:
        """The reader has taken ``message`` out of the queue."""

    def _wait(self, match: Match) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.receiver = (match, future)
        self.waits()
        return future

    def _take(self, match: Match) -> tuple[bool, Any]:
        """Remove and return the first message that matches."""
        for index, message in enumerate(self.queue):
            if match(message):
                self._take_at(index)
                return True, message
        return False, None

    def _take_this(self, message: Any) -> bool:
        """Remove this very message (not an equal one); False when it is not there any more."""
        for index, waiting in enumerate(self.queue):
            if waiting is message:
                self._take_at(index)
                return True
        return False

    def _take_at(self, index: int) -> None:
        message = self.queue[index]
        del self.queue[index]
        self.taken(message)


class Inbox(Selective):
    """The messages to a process of the facade, for its function."""

    def __init__(self) -> None:
        self.queue: deque[Any] = EMPTY
        self.on_wait: Callable[[], None] | None = None
        """Called when the reader begins to wait."""

    @property
    def reader(self) -> asyncio.Future[Any] | None:
        """What the reader waits for, if there is one now."""
        return None if self.receiver is None else self.receiver[1]

    def put(self, message: Any) -> None:
        """A message arrived."""
        if self.queue is EMPTY:
            self.queue = deque()
        self.queue.append(message)
        self.offer(message)

    def waits(self) -> None:
        if self.on_wait is not None:
            self.on_wait()
