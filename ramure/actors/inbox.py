"""A mailbox that is read selectively: Erlang's ``receive``, for code that is a task and not a handler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ramure.errors import OperationalError, UsageError
from ramure.faults import failure_of

__all__ = ["Inbox", "ReceiveTimeout", "matcher"]

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


class Inbox:
    """Messages in order of arrival, and at most one reader that waits for a match."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._reader: tuple[Match, asyncio.Future[Any]] | None = None
        self.on_wait: Callable[[], None] | None = None
        """Called when the reader begins to wait."""

    @property
    def reader(self) -> asyncio.Future[Any] | None:
        """What the reader waits for, if there is one now."""
        return None if self._reader is None else self._reader[1]

    def put(self, message: Any) -> None:
        """A message arrived: to the reader, if it waits for such a one; else to the end of the queue."""
        if self._reader is not None:
            match, future = self._reader
            if not future.done():
                try:
                    wanted = match(message)
                except BaseException as raised:  # the predicate is the reader's own
                    error = failure_of(raised)
                    self._reader = None
                    future.set_exception(error)
                else:
                    if wanted:
                        self._reader = None
                        future.set_result(message)
                        return
        self._messages.append(message)

    async def receive(self, pattern: object, timeout: float | None, label: str) -> Any:
        """See :func:`ramure.actors.receive`."""
        match = matcher(pattern)
        for index, message in enumerate(self._messages):
            if match(message):
                del self._messages[index]
                return message
        if timeout is not None and timeout <= 0:
            raise ReceiveTimeout(label, pattern, timeout)
        if self._reader is not None:
            raise UsageError(f"two receive() at once in {label}: a mailbox has one reader")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        reader = self._reader = (match, future)
        if self.on_wait is not None:
            self.on_wait()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            if not future.cancelled():
                raise  # the predicate's own
            raise ReceiveTimeout(label, pattern, timeout or 0.0) from None
        except asyncio.CancelledError:
            if not future.cancelled() and future.done():
                self._messages.appendleft(future.result())  # taken, but its reader was cancelled: not lost
            raise
        finally:
            if self._reader is reader:
                self._reader = None
