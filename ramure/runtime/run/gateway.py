"""The agent gateway: one WebSocket server of a run, to which the extensions of its agents connect.

It knows tokens and frames, and no actors: whoever expects an agent registers a :class:`Sink`, whose methods are called
on the event loop and must not block. Nobody without a token that is expected gets an answer out of it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as SocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from ramure.agents.reports import checked
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
    Report,
    decode,
    encode,
)
from ramure.errors import OperationalError, UsageError
from ramure.executor import resolve
from ramure.forks import keep_from_forks, socket_of
from ramure.masking import get_logger
from ramure.runtime.run.doorkeeper import BATCH, Doorkeeper, Listener, Stranger

__all__ = ["AgentConnection", "Gateway", "GatewayUnavailable", "Sink"]

HELLO_TIMEOUT = 10.0
"""Seconds that a client has for its hello."""

TURNED_AWAY = 0.5
"""Seconds in which a client without a token can read that it was refused."""

MALFORMED_LIMIT = 50
"""Frames that are none, after which a connection is closed: an extension in order sends none at all."""

UNTAKEN = 64
UNTAKEN_BYTES = 4 << 20
"""Frames of one connection, and bytes of them, that may wait for the agent before no further one is read."""

UNREAD_BYTES = 64 << 20
"""Bytes that may wait for an extension that does not read, before its connection is closed."""

SHARE = 0.25
PATIENCE = 0.05
"""A connection whose frames take more than this share of the event loop's time is read more slowly, once it is so many
seconds ahead."""

LARGE = 1 << 20
"""Bytes of a frame from which on only one at a time is taken in, of all connections."""

LOOKS = 8
"""How often in its ``stale_after`` seconds a silent connection is looked at."""

# At DEBUG, websockets writes down the headers that it reads, a launch's token among them: this logger masks it.
# Failed openings are counted; as log lines with tracebacks they would only be noise that any port scanner can make.
_log = get_logger("ramure.gateway")
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

    def __init__(self, socket: Stranger, stale_after: float) -> None:
        self.socket = socket
        self._stale_after = stale_after
        self._outgoing: asyncio.Queue[str | None] = asyncio.Queue()
        self._unread = 0  # bytes in that queue
        self._writing = False
        self._untaken: collections.deque[int] = (
            collections.deque()
        )  # the sizes of the frames that the agent has not taken
        self._untaken_bytes = 0
        self._taken = asyncio.Event()
        self._holds_up = False  # until some are taken
        self._give: Callable[[Frame], object] | None = None  # while read() waits for the next frame
        self._spent = 0.0  # seconds of the loop's time, beyond its share
        self._spent_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self.last_seen: float = self._loop.time()
        """Loop time of the last frame from the extension."""
        self._deaf = 0.0  # seconds since then in which this program could not hear
        self._next_look = 0.0
        self.malformed: int = 0
        """How many of its frames were none."""
        self.ended: str | None = None
        """Why it ended; None while it lives."""
        self.stale: bool = False
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
            self._unread += len(text)
            if self._unread > UNREAD_BYTES:
                self._break(f"{self._unread:,} bytes wait for it, and it does not read")
                return False
            self._outgoing.put_nowait(text)
        return True

    def taken(self) -> None:
        """One more of its frames has been dealt with. Called by who was given them."""
        if self._untaken:
            self._untaken_bytes -= self._untaken.popleft()
            if self._holds_up:
                self._taken.set()

    def spend(self, seconds: float) -> None:
        """So much of the event loop's time went to it beside the reading of its frames."""
        self._spent += seconds

    def _break(self, reason: str) -> None:
        """End it at once: it breaks the rules, or does not follow them."""
        self._end(CLOSE_PROTOCOL, reason)
        self.socket.transport.abort()

    def _send_now(self, text: str) -> bool:
        """Send it without a turn of the event loop, where nothing is in its way; False where something is."""
        socket = self.socket
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
            self._taken.set()
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
            self.socket.transport.abort()  # a stopped process answers no closing handshake
            return
        self._look_in(self._stale_after - silent)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # The reader tells how it ended.
            while (text := await self._outgoing.get()) is not None:
                self._writing = True
                await self.socket.send(text)
                self._writing = False
                self._unread -= len(text)
            await self.socket.close(self._code, (self.ended or "").encode()[:120].decode(errors="ignore"))

    @property
    def _has_enough(self) -> bool:
        """True while the agent has not dealt with enough of what it was given."""
        if self.ended is not None:
            return False
        return len(self._untaken) > UNTAKEN or self._untaken_bytes > UNTAKEN_BYTES

    def at_once(self, frame: SocketFrame) -> bool:
        """Take in a small frame for which :meth:`read` waits, without a turn of the event loop. Whether that was done."""
        give, self._give = self._give, None
        if give is None or frame.opcode is not Opcode.TEXT or not frame.fin or len(frame.data) >= LARGE:
            return False
        if self.ended is not None or self._spent > PATIENCE or (self._untaken and self._has_enough):
            return False
        try:
            text = str(frame.data, "utf-8")
        except UnicodeDecodeError:
            return False  # recv() ends the connection for it
        self._take(text, give)
        self._give = give
        return True

    async def read(self, give: Callable[[Frame], object], large: asyncio.Lock) -> bool:
        """Take in the next frame; whether there was one. Malformed ones and pings are answered here.

        What comes faster than it is dealt with waits in the extension: no more than a few frames are here at a time,
        and no extension gets more than its share of the event loop.
        """
        self._give = give
        try:
            text = await self.socket.recv()
        finally:
            self._give = None
        self.last_seen, self._deaf = self._loop.time(), 0.0
        await self._not_too_fast()  # with what was taken in at once
        if len(text) < LARGE:
            given = self._take(text, give)
        else:
            async with large:
                given = self._take(text, give)
                del text
                await asyncio.sleep(0)  # the others' turn, before the next large one
        await self._not_too_fast()
        return given

    async def _not_too_fast(self) -> None:
        """Return when the agent has dealt with enough, and the connection is not ahead of its share of the loop."""
        ahead = self._spent - (self._loop.time() - self._spent_at) * SHARE
        if ahead > PATIENCE and self.ended is None:
            await asyncio.sleep(ahead / SHARE)
        while self._has_enough:
            self._taken.clear()
            self._holds_up = True
            await self._taken.wait()
            self._holds_up = False

    def _take(self, text: str | bytes, give: Callable[[Frame], object]) -> bool:
        self.last_seen = began = self._loop.time()
        self._deaf = 0.0
        frame = self._decoded(text)
        if frame is not None:
            size = len(text)
            self._untaken.append(size)
            self._untaken_bytes += size
            give(frame)
        now = self._loop.time()
        left = self._spent - (began - self._spent_at) * SHARE
        self._spent = now - began + max(0.0, left)
        self._spent_at = now
        return frame is not None

    def _decoded(self, text: str | bytes) -> Frame | None:
        try:
            frame = decode(text)
            if isinstance(frame, Report):
                data = checked(frame.kind, frame.data)
                return frame if data is frame.data else Report(frame.n, frame.kind, data)
        except MalformedFrame as error:
            self.malformed += 1
            self.send(ErrorFrame(error.code, str(error)))
            if self.malformed >= MALFORMED_LIMIT:
                self._end(CLOSE_PROTOCOL, f"{self.malformed} of its frames were none; the last: {error}")
            return None
        if isinstance(frame, Ping):
            self.send(Pong())
            return None
        return None if isinstance(frame, Pong) else frame


class Gateway:
    """The server. ``async with Gateway() as gateway: …``, or :meth:`start` and :meth:`close`.

    ``stale_after``: seconds without any frame after which an extension counts as dead (it pings every 2 s by default).
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, stale_after: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._stale_after = stale_after
        self._servers: list[Server] = []
        self._door = Doorkeeper()
        self._large = asyncio.Lock()
        self._sinks: dict[bytes, tuple[Sink, float]] = {}
        self._current: dict[bytes, AgentConnection] = {}
        self.refused: int = 0
        """How many clients came without a token that is expected."""

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listens. Raises GatewayUnavailable where it cannot."""
        try:
            addresses = [str(address[4][0]) for address in await resolve(self._host, self._port)]
            for address in dict.fromkeys(addresses):
                await self._listen(address)
        except OSError as error:
            await self.close()
            where = f"{self._host}:{self._port}"
            raise GatewayUnavailable(
                f"cannot listen for agents on {where}: {_why(error)}; pass another host= or port="
            ) from error

    async def _listen(self, address: str) -> None:
        listener = Listener.at(address, self._port, self._door)
        self._port = listener.getsockname()[1]  # the same one at every address
        try:
            server = await serve(
                self._serve,
                sock=listener,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                process_request=self._screen,
                max_size=MAX_FRAME,
                max_queue=1,
                compression=None,
                backlog=BATCH,
                open_timeout=HELLO_TIMEOUT,
                ping_interval=None,
                close_timeout=1.0,
                logger=_log,
                server_header=None,
                create_connection=self._door.connections(),
            )
        except BaseException:
            listener.close()
            raise
        keep_from_forks(server, lambda server: server.sockets)
        self._servers.append(server)

    async def close(self) -> None:
        """Ends all connections and stops listening; bounded by a second or two."""
        for connection in list(self._current.values()):
            connection.close(1001, "the run has ended")
        for server in self._servers:
            server.close(close_connections=False)
        self._door.send_away()
        try:
            async with asyncio.timeout(1.0):
                for server in self._servers:
                    await server.wait_closed()
        except TimeoutError:
            for server in self._servers:
                for socket in list(server.connections):
                    socket.transport.abort()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if not self._servers:
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
            await _turn_away(socket)
            return
        assert isinstance(socket, Stranger)
        connection = AgentConnection(socket, self._sinks[key][1])
        writer = asyncio.create_task(connection._write())
        try:
            await self._converse(key, connection)
        finally:
            connection._end(1000, "closed")
            reader = asyncio.create_task(_read_the_rest(socket))
            await writer
            reader.cancel()
            await asyncio.wait([reader])

    async def _converse(self, key: bytes, connection: AgentConnection) -> None:
        first: list[Frame] = []
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                while not await connection.read(first.append, self._large):
                    pass
        except TimeoutError:
            connection.close(CLOSE_PROTOCOL, "no hello")
            return
        except ConnectionClosed:
            return
        connection.taken()
        hello = first[0]
        if key not in self._sinks:
            connection.close(CLOSE_REFUSED, "token refused")
            return
        sink, _ = self._sinks[key]
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            connection.close(CLOSE_PROTOCOL, f"the first frame must be a hello of protocol {PROTOCOL}")
            return
        self._door.known(connection.socket)
        old = self._current.get(key)
        if old is not None:
            old.close(CLOSE_REPLACED, "replaced by a new connection")
        self._current[key] = connection
        connection._begin_watch()

        def give(frame: Frame) -> None:
            if self._current.get(key) is connection and connection.ended is None:
                sink.frame(connection, frame)
            else:
                connection.taken()

        sink.connected(connection, hello)
        connection.socket.at_once = connection.at_once
        try:
            while connection.ended is None:
                await connection.read(give, self._large)
        except ConnectionClosed as closed:
            connection._end(1000, _told(closed))
        finally:
            connection._end_watch()
            if self._current.get(key) is connection:
                del self._current[key]
                sink.disconnected(connection, connection.ended or "closed")


async def _read_the_rest(socket: ServerConnection) -> None:
    """What still comes on a connection that ends is dropped: its client's answer to the close stands behind it."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv(decode=False)


async def _turn_away(socket: ServerConnection) -> None:
    """Close the connection of a client whose token is not expected, and read nothing more of what it sends.

    A close code rather than an HTTP status: the extension cannot see the latter, and must know it is final."""
    transport = socket.transport
    transport.pause_reading()
    closing = asyncio.create_task(socket.close(CLOSE_REFUSED, "token refused"))
    await asyncio.wait([closing], timeout=TURNED_AWAY)
    transport.abort()
    await asyncio.wait([closing])


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
