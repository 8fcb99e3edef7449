"""The control actor: how other programs of the same user see into a run, and act on it.

Each client is served by tasks of its own, and no client can disturb the run: what it may send, have under way and
leave unread is bounded, serving all of them takes a fifth of the event loop's time at most, and whatever goes wrong
with one ends its connection and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgpack

from ramure.actors import Actor
from ramure.errors import RamureError
from ramure.forks import keep_from_forks, socket_of
from ramure.runtime.control.actors import ActorMethods
from ramure.runtime.control.errors import BadRequest, ConnectionRefused, MalformedFrame, NotSendable, TooMuch
from ramure.runtime.control.methods import Dropped, Method, methods_of
from ramure.runtime.control.runs import RunMethods
from ramure.runtime.control.values import pack, unpacker
from ramure.runtime.control.wire import MAX_ANSWER, MAX_REQUEST, Number, described, number_of, read_request
from ramure.tracebacks import format_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ramure.runtime.run.run import Run

__all__ = ["ControlActor"]

MAX_CLIENTS: Final = 256
"""Clients at once. A new one takes the place of the one that has been idle longest; if none is idle, it is refused."""

MAX_UNDER_WAY: Final = 64
"""Requests and streams of one client at once."""

MAX_BAD: Final = 16
"""Frames that are no requests, after which a client is sent away."""

WRITE_BUFFER: Final = 1 << 18
"""Bytes that wait for a client to read them, before what is served to it waits too."""

STALLED: Final = 10.0
"""Seconds for which a client may read nothing of what waits for it."""

SHARE: Final = 0.2
"""Of the event loop's time, what clients get once they have used up BURST seconds."""

BURST: Final = 0.1


class ControlActor(Actor):
    """Owns the socket and the clients."""

    async def init(self, run: Run) -> None:
        self.trap_exit = True
        self._run = run
        self.methods: dict[str, Method] = methods_of(RunMethods(run), ActorMethods(run))
        self.clients: dict[_Client, None] = {}
        self.pace: _Pace = _Pace()
        path = run.paths.socket
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # In a directory that only its owner gets into. Not by the umask, which is the whole program's.
            listening.bind(str(path))
            path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._accept, sock=listening, backlog=512)
            keep_from_forks(self._server, lambda server: server.sockets)
        except BaseException:
            listening.close()
            raise

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep_from_forks(writer.transport, socket_of)
        if _peer_uid(writer) not in (os.getuid(), None):
            writer.close()
            return
        client = _Client(self, reader, writer)
        if len(self.clients) >= MAX_CLIENTS and not self._make_room():
            client.refuse(ConnectionRefused(f"the run serves {MAX_CLIENTS} clients already; try again later"))
            return
        self.clients[client] = None
        self.start_task(client.serve(), name="control client")

    def _make_room(self) -> bool:
        idle = [client for client in self.clients if not client.under_way]
        if idle:
            longest = min(idle, key=lambda client: client.last_asked)
            longest.refuse(ConnectionRefused("another client needed the place of this one, which was idle longest"))
        return bool(idle)

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the actor."""
        return self.start_task(coroutine, name=name)

    def unexpected(self, method: str, error: Exception) -> None:
        """A defect in a method: its client is told, and so is the run's log."""
        self._run.log("problem", {"text": f"the control method {method} raised", "traceback": format_traceback(error)})

    def handle_info(self, message: object) -> None:
        """Nothing is expected."""

    async def terminate(self, reason: object) -> None:
        self._server.close()
        for client in list(self.clients):
            client.abort()


class _ClientLeft(Exception):
    """A client has gone, or does not read. Not an OSError: methods raise those too, and are answered."""


class _Pace:
    """Keeps what serving costs within its share of the loop's time: whoever has been served waits, so a run with
    busy clients is as quick as one without, and they are slower."""

    def __init__(self) -> None:
        self._paid_until = 0.0

    async def pay(self, seconds: float) -> None:
        """Wait as long as ``seconds`` of the loop's time cost."""
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - BURST / SHARE) + seconds / SHARE
        await asyncio.sleep(max(0.0, self._paid_until - now))


class _Client:
    """One connection: reads requests, and has a task for each that is under way."""

    def __init__(self, control: ControlActor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.last_asked = time.monotonic()
        self.under_way: dict[Number, asyncio.Task[None]] = {}
        self._control = control
        self._reader = reader
        self._writer = writer
        self._cost = 0.0
        self._writing = asyncio.Lock()
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    # -- its life ---------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve it until it leaves, or has to."""
        try:
            await self._read()
        except (OSError, _ClientLeft):
            pass
        except Exception as error:
            self._control.unexpected("connection", error)
        finally:
            self._control.clients.pop(self, None)
            for task in self.under_way.values():
                task.cancel()
            self._close()

    def refuse(self, error: RamureError) -> None:
        """Say why, and end the connection."""
        self._control.clients.pop(self, None)
        self._writer.write(pack([None, False, described(error)]))
        self._close()

    def _close(self) -> None:
        """End the connection after what waits has been read, if it is read in time."""
        self._writer.close()
        if self._writer.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(STALLED, self.abort)

    def abort(self) -> None:
        """End the connection now."""
        self._writer.transport.abort()

    async def _read(self) -> None:
        frames = unpacker(MAX_REQUEST)
        bad = 0
        while data := await self._reader.read(1 << 16):
            began = time.perf_counter()
            try:
                frames.feed(data)
                while (frame := next(frames, _END)) is not _END:
                    self._cost += time.perf_counter() - began
                    await self._drained()  # answers for who does not read would pile up in the requests under way
                    if not await self._take(frame):
                        bad += 1
                        if bad >= MAX_BAD:
                            raise MalformedFrame(f"{MAX_BAD} frames were no requests")
                    cost, self._cost = self._cost, 0.0
                    await self._control.pace.pay(cost)
                    began = time.perf_counter()
            except msgpack.BufferFull:
                await self._bad_bye(f"a request is larger than {MAX_REQUEST} bytes")
                return
            except MalformedFrame as error:
                await self._bad_bye(str(error))
                return
            except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
                await self._bad_bye(f"what came is no msgpack: {str(error) or type(error).__name__}")
                return

    async def _bad_bye(self, text: str) -> None:
        error = MalformedFrame(text + "; the connection ends")
        await self._write([None, False, described(error)])

    # -- requests -----------------------------------------------------------------------------------------------

    async def _take(self, frame: Any) -> bool:
        """Start on a request. False for what is none."""
        self.last_asked = time.monotonic()
        try:
            number, name, arguments = read_request(frame)
            if number in self.under_way:
                raise BadRequest("id", f"{number!r} is the id of a request that is under way")
            if name == "cancel":
                await self._write([number, True, self._cancel(arguments)])
                return True
            method = self._control.methods.get(name)
            if method is None:
                known = ", ".join(sorted((*self._control.methods, "cancel")))
                raise BadRequest("method", f"there is no {name!r:.100}; there are: {known}")
            call = method.bind(arguments)
            if len(self.under_way) >= MAX_UNDER_WAY:
                raise TooMuch(f"{MAX_UNDER_WAY} requests are under way; wait for an answer, or cancel one")
        except RamureError as error:
            await self._write([number_of(frame), False, described(error)])
            return not (isinstance(error, BadRequest) and error.field in ("frame", "id", "method", "arguments"))
        work = self._answer(number, method, call) if method.kind == "method" else self._stream(number, method, call)
        self.under_way[number] = self._control.start(self._guard(number, method, work), f"control {name}")
        return True

    def _cancel(self, arguments: Mapping[str, Any]) -> bool:
        if list(arguments) != ["id"] or not isinstance(arguments["id"], int | str):
            raise BadRequest("id", "cancel takes the id of the request to cancel")
        task = self.under_way.get(arguments["id"])
        return task is not None and task.cancel()

    async def _guard(self, number: Number, method: Method, work: Coroutine[Any, Any, None]) -> None:
        """Whatever becomes of a request, it is answered, and nobody else suffers from it."""
        try:
            await work
        except _ClientLeft:
            self.abort()
        except RamureError as error:
            await self._last(number, error)
        except Exception as error:
            self._control.unexpected(method.name, error)
            await self._last(number, error)
        finally:
            self.under_way.pop(number, None)

    async def _last(self, number: Number, error: Exception) -> None:
        try:
            await self._write([number, False, described(error)])
        except _ClientLeft:
            self.abort()

    async def _answer(self, number: Number, method: Method, call: Callable[[], Any]) -> None:
        began = time.perf_counter()
        value = call()
        self._cost += time.perf_counter() - began
        try:
            if asyncio.iscoroutine(value):
                value = await value
        except asyncio.CancelledError:
            await self._unless_gone([number, False, {"error": "Cancelled", "text": "the request was cancelled"}])
            raise
        await self._write([number, True, value])

    async def _stream(self, number: Number, method: Method, call: Callable[[], Any]) -> None:
        items: AsyncIterator[Any] = call()
        dropped = 0
        try:
            async for item in items:
                if isinstance(item, Dropped):
                    dropped += item.count
                    await self._write([number, "dropped", item.count])
                else:
                    await self._write([number, "item", item])
                cost, self._cost = self._cost, 0.0
                await self._control.pace.pay(cost)
        except asyncio.CancelledError:
            await self._unless_gone([number, "end", {"dropped": dropped, "cancelled": True}])
            raise
        finally:
            await items.aclose()  # type: ignore[attr-defined]
        await self._write([number, "end", {"dropped": dropped, "cancelled": False}])

    # -- writing ------------------------------------------------------------------------------------------------

    async def _unless_gone(self, frame: list[Any]) -> None:
        """The last frame of something cancelled: by the client, which hears of it, or because the client has left."""
        if self in self._control.clients and not self._writer.transport.is_closing():
            self._writer.write(pack(frame))

    async def _write(self, frame: list[Any]) -> None:
        """Send a frame, after those before it. Raises :class:`_ClientLeft` when it has gone, or does not read."""
        async with self._writing:  # so at most one answer's bytes wait outside of the transport's buffer
            began = time.perf_counter()
            try:
                data = pack(frame, MAX_ANSWER)
            except NotSendable as error:
                data = pack([frame[0], False, described(error)])
            self._cost += time.perf_counter() - began
            if self._writer.transport.is_closing():
                raise _ClientLeft
            self._writer.write(data)
            await self._drained()

    async def _drained(self) -> None:
        """Wait while more than WRITE_BUFFER is unread. Raises :class:`_ClientLeft` when that lasts."""
        try:
            async with asyncio.timeout(STALLED):
                await self._writer.drain()
        except OSError:  # as a TimeoutError is, too
            raise _ClientLeft from None


_END: Final = object()


def _peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """The uid of the process at the other end; None where the system does not say (mode 0600 must do there)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
