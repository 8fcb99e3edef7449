"""What marks a method of the control socket, and what a stream is made with.

A class of methods is made once for each run, with the run. A request's arguments are checked and converted by the
method's signature, as a tool's are (:mod:`ramure.agents.tools.signatures`): annotate with what JSON has::

    class ActorMethods:
        def __init__(self, run: Run) -> None: ...

        @method
        async def kill(self, actor: str, reason: str = "kill") -> None: ...

        @stream
        async def trace(self, pattern: str, limit: int | None = None) -> AsyncIterator[dict[str, Any]]:
            with Feed(1000) as feed: ...
            async for event in feed:
                yield event

A plain method may be async or not. What it raises is told to the client by the exception's name and text; a
RamureError is an answer, anything else is also written into the run's log.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from ramure.agents.tools.fields import InvalidArguments
from ramure.agents.tools.signatures import Signature
from ramure.runtime.control.errors import BadRequest
from ramure.runtime.control.flow import ITEM, WINDOW

__all__ = ["Dropped", "Feed", "Method", "Window", "method", "methods_of", "stream"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MARK: Final = "__control__"


def method(function: F) -> F:
    """A method that answers once."""
    setattr(function, _MARK, "method")
    return function


def stream(function: F) -> F:
    """An async generator: each thing that it yields is an item to the client. It is closed when the client cancels or
    leaves. A slow client holds it up, so what must not wait goes through a :class:`Feed`."""
    setattr(function, _MARK, "stream")
    return function


@dataclass(frozen=True)
class Method:
    """A method that can be requested."""

    name: str
    kind: Literal["method", "stream"]
    function: Callable[..., Any]

    @functools.cached_property
    def _signature(self) -> Signature:
        """Read when it is needed: a run has some forty methods."""
        return Signature.of(self.function, of_python=True)

    def bind(self, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The call that the arguments make. Raises :class:`BadRequest` with the field and the reason."""
        try:
            bound = self._signature.bind_python(arguments)
        except InvalidArguments as error:
            raise BadRequest(error.field, error.reason) from None
        return lambda: self.function(**bound)


def methods_of(*objects: object) -> dict[str, Method]:
    """The marked methods of these objects, by name."""
    found: dict[str, Method] = {}
    for owner in objects:
        for name, function in inspect.getmembers(owner, inspect.ismethod):
            kind = getattr(function, _MARK, None)
            if kind is not None:
                found[name] = Method(name, kind, function)
    return found


# -- for streams ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dropped:
    """In a stream: so many items are missing here."""

    count: int


class Feed(Generic[T]):
    """A queue between something that must not wait and a stream: ``put`` never blocks, and an ``async for`` reads.

    It keeps the oldest ``limit`` items that were not read; when it is full, new ones are counted, and a
    :class:`Dropped` stands where they are missing. ``close()`` ends the reading after what is kept.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._items: deque[T | Dropped] = deque()
        self._missing = 0
        self._reader: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item. On the event loop's thread."""
        if self._closed:
            return
        if len(self._items) >= self._limit:
            self._missing += 1
            return
        self._mark_missing()
        self._items.append(item)
        self._wake()

    @property
    def waiting(self) -> int:
        """Items that were not read yet."""
        return len(self._items)

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._wake()

    def _mark_missing(self) -> None:
        if self._missing:
            self._items.append(Dropped(self._missing))
            self._missing = 0

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def __aiter__(self) -> AsyncIterator[T | Dropped]:
        while True:
            while self._items:
                yield self._items.popleft()
            if self._missing:
                self._mark_missing()
                continue
            if self._closed:
                return
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None


class Window:
    """For a stream whose items must not be lost: what has been sent and not been taken. See
    :mod:`ramure.runtime.control.flow`."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._ahead = 0
        self._room = asyncio.Event()
        self._room.set()

    async def send(self, size: int) -> None:
        """Wait until an item of ``size`` bytes may be sent; it counts as sent."""
        await self._room.wait()
        self._sizes.append(size + ITEM)
        self._ahead += size + ITEM
        if self._ahead >= WINDOW:
            self._room.clear()

    def taken(self, items: int) -> None:
        """The reader has taken the next ``items`` items."""
        for _ in range(min(items, len(self._sizes))):
            self._ahead -= self._sizes.popleft()
        if self._ahead < WINDOW:
            self._room.set()
