"""The asynchronous end of the control socket: requests that wait for their answers, and streams."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import msgpack

from ramure.runtime.control.errors import RunGone
from ramure.runtime.control.find import address
from ramure.runtime.control.methods import Dropped, Feed
from ramure.runtime.control.values import pack, unpacker
from ramure.runtime.control.wire import MAX_ANSWER, MAX_REQUEST, failure, gone

__all__ = ["Calls", "Connection", "Stream"]

T = TypeVar("T")

KEPT: Final = 10_000
"""Items of a stream that a program keeps until it reads them; what comes meanwhile is counted as dropped."""


class Connection:
    """One connection to a run; made by :meth:`open`."""

    def __init__(self, run: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.execution_id = run
        self.ended: RunGone | None = None
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, Stream[Any]] = {}
        self._reading = asyncio.create_task(self._read(), name=f"control connection to {run}")

    @classmethod
    async def open(cls, path: Path) -> Connection:
        """Connect. Raises OSError when the run is dead."""
        reader, writer = await asyncio.open_unix_connection(address(path))
        return cls(path.stem, reader, writer)

    async def request(self, method: str, arguments: dict[str, Any]) -> Any:
        """Ask, and return the answer; cancelling it cancels the request in the run. Raises RequestFailed, RunGone."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send([number, method, arguments])
            return await answer
        except asyncio.CancelledError:
            self.cancel(number)
            raise
        finally:
            del self._answers[number]

    async def stream(self, method: str, arguments: dict[str, Any]) -> Stream[Any]:
        """Begin a stream."""
        number = next(self._numbers)
        stream = self._streams[number] = Stream(self, number)
        await self._send([number, method, arguments])
        return stream

    def cancel(self, number: int) -> None:
        """End a request or stream in the run; there is no need to wait for it."""
        self._streams.pop(number, None)
        if self.ended is None:
            self._writer.write(pack([next(self._numbers), "cancel", {"id": number}]))

    async def _send(self, frame: list[Any]) -> None:
        if self.ended is not None:
            raise self.ended
        self._writer.write(pack(frame, MAX_REQUEST))
        try:
            await self._writer.drain()
        except OSError as error:
            raise gone(self.execution_id, f"is gone: {error}") from error

    async def _read(self) -> None:
        frames = unpacker(MAX_ANSWER + MAX_REQUEST)
        why = "has ended, or closed this connection"
        try:
            while data := await self._reader.read(1 << 16):
                frames.feed(data)
                for frame in frames:
                    self._take(frame)
        except (OSError, ValueError, msgpack.UnpackException) as error:
            why = f"is gone: {error}"
        finally:
            self._end(gone(self.execution_id, why))

    def _take(self, frame: Any) -> None:
        number, kind, value = frame
        answer, stream = self._answers.get(number), self._streams.get(number)
        if stream is not None:
            stream._take(kind, value)
            if kind in ("end", False):
                del self._streams[number]
        elif answer is not None and not answer.done():
            if kind is True:
                answer.set_result(value)
            else:
                answer.set_exception(failure(value))

    def _end(self, error: RunGone) -> None:
        self.ended = self.ended or error
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self.ended)
        for stream in self._streams.values():
            stream._fail(self.ended)
        self._streams.clear()
        self._writer.close()

    async def wait_ended(self) -> None:
        """Return when the connection has ended: the run has, or has sent this client away."""
        await asyncio.wait([self._reading])

    async def close(self) -> None:
        """End the connection."""
        self._end(gone(self.execution_id, "was left by this program", "Closed"))
        self._reading.cancel()
        await asyncio.wait([self._reading])


class Stream(Generic[T]):
    """Something that goes on in a run: ``async for item in stream``. Leave its ``async with``, or call
    :meth:`aclose`, to end it. ``dropped`` counts the items that came too fast for whoever reads."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.dropped: int = 0
        self._connection = connection
        self._number = number
        self._feed: Feed[T] = Feed(KEPT)
        self._error: Exception | None = None
        self._items = self._iterate()

    def _take(self, kind: object, value: Any) -> None:
        if kind == "item":
            self._feed.put(value)
        elif kind == "dropped":
            self.dropped += value
        elif kind == "end":
            self._feed.close()
        else:
            self._fail(failure(value))

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._feed.close()

    async def _iterate(self) -> AsyncIterator[T]:
        async for item in self._feed:
            if isinstance(item, Dropped):
                self.dropped += item.count
            else:
                yield item
        if self._error is not None:
            raise self._error

    def __aiter__(self) -> AsyncIterator[T]:
        return self._items

    async def __anext__(self) -> T:
        return await anext(self._items)

    async def aclose(self) -> None:
        """End it."""
        self._feed.close()
        self._connection.cancel(self._number)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Calls:
    """The base of classes with a typed method for each of the run's methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def request(self, method: str, /, **arguments: Any) -> Any:
        """Any method of the control socket that answers once."""
        return await self._connection.request(method, arguments)

    async def stream(self, method: str, /, **arguments: Any) -> Stream[Any]:
        """Any stream of the control socket."""
        return await self._connection.stream(method, arguments)
