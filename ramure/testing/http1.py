"""A small HTTP/1.1 server on asyncio streams, for test servers on this host.

One request per connection (every answer says ``Connection: close``), so that while an answer is written whatever the
socket gives is the client's going: the handler is then cancelled at once, with ``responder.client_gone`` set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

__all__ = ["BadRequestError", "HttpRequest", "HttpServer", "Responder", "http_server"]

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024


class BadRequestError(Exception):
    """What came is no HTTP request that this server can read."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, whole. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Responder:
    """The way to answer one request: :meth:`reply`, or :meth:`start`, :meth:`send` … and :meth:`finish`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.started: bool = False
        self.client_gone = False

    async def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer with one body, of JSON unless ``headers`` say otherwise."""
        head = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self._head(status, head)
        self._writer.write(body)
        await self._writer.drain()

    async def start(self, status: int, headers: dict[str, str]) -> None:
        """Begin an answer of unknown length."""
        self._head(status, {**headers, "Transfer-Encoding": "chunked"})
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        """Send a piece of the answer begun with :meth:`start`."""
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def finish(self) -> None:
        """End the answer begun with :meth:`start`."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Close the connection now, in the middle of whatever it is in."""
        self._writer.transport.abort()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.started = True
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Scripted"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


Handler = Callable[[HttpRequest, Responder], Awaitable[None]]


class HttpServer:
    """A server that is up. ``address`` is (host, port)."""

    def __init__(self, handler: Handler, failed: Callable[[Exception], None]) -> None:
        self._handler = handler
        self._failed = failed
        self._connections: set[asyncio.Task[None]] = set()
        self.address: tuple[str, int] = ("", 0)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For ``asyncio.start_server``: a plain function, so that the tasks are this server's own."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="http connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def close_connections(self) -> None:
        """End every connection, and return when they have ended."""
        while self._connections:
            for task in list(self._connections):
                task.cancel()
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responder = Responder(writer)
        try:
            request = await _read_request(reader, writer)
            if request is not None:
                await self._handle(request, responder, reader)
        except ConnectionError:
            responder.client_gone = True
        except BadRequestError as error:
            self._failed(error)
            with suppress(ConnectionError):
                await responder.reply(400, str(error).encode(), {"Content-Type": "text/plain"})
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _handle(self, request: HttpRequest, responder: Responder, reader: asyncio.StreamReader) -> None:
        async def handle() -> None:
            await self._handler(request, responder)

        handler = asyncio.create_task(handle(), name=f"{request.method} {request.path}")
        gone = asyncio.create_task(reader.read(1), name="watch for the client's going")
        try:
            await asyncio.wait({handler, gone}, return_when=asyncio.FIRST_COMPLETED)
            responder.client_gone = not handler.done()
        finally:
            for task in (handler, gone):
                task.cancel()
            _, failure = await asyncio.gather(gone, handler, return_exceptions=True)
        if isinstance(failure, Exception) and not isinstance(failure, ConnectionError):
            self._failed(failure)
            if not responder.started:
                await responder.reply(500, f"{type(failure).__name__}: {failure}".encode())


@asynccontextmanager
async def http_server(
    handler: Handler, failed: Callable[[Exception], None], host: str, port: int
) -> AsyncIterator[HttpServer]:
    """A server on ``host`` and ``port`` (0: any free one) while the block runs.

    ``failed`` hears of requests that cannot be read and of exceptions that leave ``handler``.
    """
    http = HttpServer(handler, failed)
    server = await asyncio.start_server(http.connected, host, port, limit=MAX_HEAD)
    try:
        http.address = server.sockets[0].getsockname()[:2]
        yield http
    finally:
        server.close()
        await http.close_connections()
        await server.wait_closed()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> HttpRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequestError(
                f"the connection ended within the head of a request: {error.partial[:200]!r}"
            ) from None
        return None  # connected and went without asking, as health checks and pools do
    except asyncio.LimitOverrunError:
        raise BadRequestError(f"the head of the request is longer than {MAX_HEAD} bytes") from None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(f"no HTTP/1 request line: {request_line[:200]!r}")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise BadRequestError(f"the body of {request_line!r} cannot be read: {error}") from None
    return HttpRequest(parts[0], parts[1], headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY:
            raise ValueError(f"a body of {length} bytes; at most {MAX_BODY} are taken")
        return await reader.readexactly(length)
    pieces: list[bytes] = []
    total = 0
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        total += size
        if size < 0 or total > MAX_BODY:
            raise ValueError(f"a body of more than {MAX_BODY} bytes")
        if size == 0:
            break
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers carry nothing that is used here
    return b"".join(pieces)
