"""The agent gateway: one WebSocket server of a run, to which the extensions of its agents connect.

It knows tokens and frames, and no actors: whoever expects an agent registers a :class:`Sink`, whose methods are called
on the event loop and must not block. Nobody without a token that is expected gets an answer out of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
from http import HTTPStatus
from typing import Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from ramure.agents.wire import (
    CLOSE_PROTOCOL,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    MAX_FRAME,
    PROTOCOL,
    SUBPROTOCOL,
    TOKEN_PREFIX,
    ErrorFrame,
    Frame,
    Hello,
    MalformedFrame,
    Ping,
    Pong,
    decode,
    encode,
)
from ramure.errors import OperationalError, UsageError
from ramure.executor import resolve
from ramure.forks import keep_from_forks, socket_of

__all__ = ["AgentConnection", "Gateway", "GatewayUnavailable", "Sink"]

HELLO_TIMEOUT = 10.0
"""Seconds that a client has for its hello."""

LOOKS = 8
"""How often in its ``stale_after`` seconds a silent connection is looked at."""

# Failed openings are counted; as log lines with tracebacks they would only be noise that any port scanner can make.
_log = logging.getLogger("ramure.gateway")
_log.addFilter(lambda record: "opening handshake failed" not in str(record.msg))


class GatewayUnavailable(OperationalError):
    """The gateway cannot listen where it was told to."""


class Sink(Protocol):
    """What is told about one launch's connection. Called on the event loop; must return at once."""

    def connected(self, connection: AgentConnection, hello: Hello) -> None:
        """The extension has said hello. The answer (a welcome, or a close) is the sink's to send."""

    def frame(self, connection: AgentConnection, frame: Frame) -> None:
        """A frame after the hello, in order. Pings are answered by the gateway and do not come here."""

    def disconnected(self, connection: AgentConnection, reason: str) -> None:
        """The connection has ended; called once for each ``connected``, except when it was replaced by a new one
        (then the new one's ``connected`` is all that is told)."""


class AgentConnection:
    """One extension's connection. Sending never blocks; what cannot be sent any more is dropped."""

    def __init__(self, socket: ServerConnection, stale_after: float) -> None:
        self._socket = socket
        self._stale_after = stale_after
        self._outgoing: asyncio.Queue[str | None] = asyncio.Queue()
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self.last_seen = self._loop.time()
        """Loop time of the last frame from the extension."""
        self._deaf = 0.0  # seconds since then in which this program could not hear
        self._next_look = 0.0
        self.malformed = 0
        """How many of its frames were none."""
        self.ended: str | None = None
        """Why it ended; None while it lives."""
        self.stale = False
        """True when it was ended since the extension gave no sign of life."""

    def silent_for(self) -> float:
        """Seconds since the extension's last frame, without those in which the event loop stood still."""
        return self._loop.time() - self.last_seen - self._deaf

    def send(self, frame: Frame) -> bool:
        """Queues a frame; False when the connection has ended. Raises FrameTooLarge for one over the limit."""
        text = encode(frame)
        if self.ended is not None:
            return False
        if not self._send_now(text):
            self._outgoing.put_nowait(text)
        return True

    def _send_now(self, text: str) -> bool:
        """Send it without a turn of the event loop, where nothing is in its way; False where something is."""
        socket = self._socket
        if self._writing or not self._outgoing.empty() or socket.protocol.state is not State.OPEN:
            return False
        if socket.transport.is_closing() or socket.transport.get_write_buffer_size():
            return False
        socket.protocol.send_text(text.encode())
        for data in socket.protocol.data_to_send():
            socket.transport.write(data)
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Ends the connection after what is queued has been sent. ``reason``: up to 120 bytes are told."""
        self._end(code, reason or "closed by the run")

    def _end(self, code: int, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
            self._code = code
            self._outgoing.put_nowait(None)  # after what is queued

    def _begin_watch(self) -> None:
        self._look_in(self._stale_after)

    def _look_in(self, left: float) -> None:
        pause = max(min(left, self._stale_after / LOOKS), 0.01)
        self._next_look = self._loop.time() + pause
        self._watch = self._loop.call_later(pause, self._look)

    def _look(self) -> None:
        late = self._loop.time() - self._next_look
        if late > self._stale_after / LOOKS:
            # Blocked, stopped or starved, this program has not read yet what came meanwhile.
            self._deaf += late
        silent = self.silent_for()
        if silent >= self._stale_after:
            self.stale = True
            self._end(CLOSE_PROTOCOL, f"no sign of life for {self._stale_after:g} s")
            # A stopped process answers no closing handshake.
            self._socket.transport.abort()
            return
        self._look_in(self._stale_after - silent)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # The reader tells how it ended.
            while (text := await self._outgoing.get()) is not None:
                self._writing = True
                await self._socket.send(text)
                self._writing = False
            await self._socket.close(self._code, (self.ended or "").encode()[:120].decode(errors="ignore"))

    async def _read(self) -> Frame:
        """The next frame; answers malformed ones and pings on the way."""
        while True:
            text = await self._socket.recv()
            self.last_seen, self._deaf = self._loop.time(), 0.0
            try:
                frame = decode(text)
            except MalformedFrame as error:
                self.malformed += 1
                self.send(ErrorFrame(error.code, str(error)))
                continue
            if isinstance(frame, Ping):
                self.send(Pong())
            elif not isinstance(frame, Pong):
                return frame


class Gateway:
    """The server. ``async with Gateway() as gateway: …``, or :meth:`start` and :meth:`close`.

    ``stale_after``: seconds without any frame after which an extension counts as dead (it pings every 2 s by default).
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, stale_after: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._stale_after = stale_after
        self._server: Server | None = None
        self._sinks: dict[bytes, tuple[Sink, float]] = {}
        self._current: dict[bytes, AgentConnection] = {}
        self.refused = 0
        """How many clients came without a token that is expected."""

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listens. Raises GatewayUnavailable where it cannot."""
        try:
            addresses = [address[4][0] for address in await resolve(self._host, self._port)]
            self._server = await serve(
                self._serve,
                addresses,  # type: ignore[arg-type]  # websockets hands it to create_server, which takes a sequence
                self._port,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                process_request=self._screen,
                max_size=MAX_FRAME,
                compression=None,
                backlog=4096,  # hundreds of agents may connect at once
                ping_interval=None,
                close_timeout=1.0,
                logger=_log,
                server_header=None,
            )
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise GatewayUnavailable(
                f"cannot listen for agents on {where}: {_why(error)}; pass another host= or port="
            ) from error
        keep_from_forks(self._server, lambda server: server.sockets)
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def close(self) -> None:
        """Ends all connections and stops listening; bounded by a second or two."""
        for connection in list(self._current.values()):
            connection.close(1001, "the run has ended")
        if self._server is not None:
            self._server.close(close_connections=False)
            try:
                async with asyncio.timeout(1.0):
                    await self._server.wait_closed()
            except TimeoutError:
                for socket in list(self._server.connections):
                    socket.transport.abort()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise UsageError("the gateway does not listen yet; await gateway.start() first")
        return self._port

    @property
    def url(self) -> str:
        """Where an extension on this host connects to."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    def expect(self, token: str, sink: Sink, stale_after: float | None = None) -> None:
        """From now on, a client with this token is let in, and told to ``sink``. One token for each launch.

        ``stale_after``: seconds of silence after which it counts as dead (default: the gateway's)."""
        self._sinks[_digest(token)] = sink, self._stale_after if stale_after is None else stale_after

    def forget(self, token: str, reason: str = "") -> None:
        """The token is no longer good; a connection that has it is closed (and told to its sink as ended)."""
        key = _digest(token)
        self._sinks.pop(key, None)
        connection = self._current.get(key)
        if connection is not None:
            connection.close(CLOSE_REFUSED, reason or "this launch is over")

    # ---- one client ----

    def _screen(self, socket: ServerConnection, request: Request) -> Response | None:
        """Before the opening: who does not even know the protocol's name gets a bare 401."""
        if SUBPROTOCOL in _offered(request):
            return None
        self.refused += 1
        return socket.respond(HTTPStatus.UNAUTHORIZED, "")

    def _holder(self, socket: ServerConnection) -> bytes | None:
        """The registered digest of the client's token. Looked up by digest, so timing says nothing of the token."""
        assert socket.request is not None
        for offered in _offered(socket.request):
            if offered.startswith(TOKEN_PREFIX):
                given = _digest(offered.removeprefix(TOKEN_PREFIX))
                return next((known for known in self._sinks if hmac.compare_digest(known, given)), None)
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        keep_from_forks(socket.transport, socket_of)
        key = self._holder(socket)
        if key is None:
            self.refused += 1
            # A close code rather than an HTTP status: the extension cannot see the latter, and must know it is final.
            await socket.close(CLOSE_REFUSED, "token refused")
            return
        connection = AgentConnection(socket, self._sinks[key][1])
        writer = asyncio.create_task(connection._write())
        try:
            await self._converse(key, connection)
        finally:
            connection._end(1000, "closed")
            await writer

    async def _converse(self, key: bytes, connection: AgentConnection) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                hello = await connection._read()
        except TimeoutError:
            connection.close(CLOSE_PROTOCOL, "no hello")
            return
        except ConnectionClosed:
            return
        if key not in self._sinks:
            connection.close(CLOSE_REFUSED, "token refused")
            return
        sink, _ = self._sinks[key]
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            connection.close(CLOSE_PROTOCOL, f"the first frame must be a hello of protocol {PROTOCOL}")
            return
        old = self._current.get(key)
        if old is not None:
            old.close(CLOSE_REPLACED, "replaced by a new connection")
        self._current[key] = connection
        connection._begin_watch()
        sink.connected(connection, hello)
        try:
            while connection.ended is None:
                frame = await connection._read()
                if self._current.get(key) is connection and connection.ended is None:
                    sink.frame(connection, frame)
        except ConnectionClosed as closed:
            connection._end(1000, _told(closed))
        finally:
            connection._end_watch()
            if self._current.get(key) is connection:
                del self._current[key]
                sink.disconnected(connection, connection.ended or "closed")


def _why(error: OSError) -> str:
    """The system's words; asyncio wraps them in a sentence of its own."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _offered(request: Request) -> list[str]:
    values = request.headers.get_all("Sec-WebSocket-Protocol")
    return [part.strip() for value in values for part in value.split(",")]


def _told(closed: ConnectionClosed) -> str:
    """What a connection that ended without the run's doing is called in an exit reason."""
    if closed.rcvd is not None:
        return f"the extension closed it ({closed.rcvd.code} {closed.rcvd.reason})".replace(" )", ")")
    if closed.sent is not None:
        why = f"a frame over {MAX_FRAME} bytes" if closed.sent.code == 1009 else "a broken WebSocket"
        return f"the extension sent {why} ({closed.sent.code} {closed.sent.reason})".replace(" )", ")")
    return "connection lost"
