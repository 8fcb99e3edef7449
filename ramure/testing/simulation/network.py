"""A network in memory: what asyncio's transports promise, without sockets, and with delays that a seed draws.

Bytes of one direction of a connection arrive in order. How long they take is for ``delay()`` to say; ``hold`` makes one
connection slower for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryServer", "MemoryTransport", "Network"]

BUFFER = 1 << 16
"""Bytes under way from which on a writer is asked to wait."""


class Network:
    """The servers of one event loop, by port, and the connections between them and their clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: Callable[[], float]) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.delay: Callable[[], float] = delay
        self.servers: dict[int, MemoryServer] = {}

    def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], port: int
    ) -> tuple[MemoryTransport, asyncio.BaseProtocol]:
        """A connection to a server of this network. Raises ConnectionRefusedError if there is none."""
        server = self.servers.get(port)
        if server is None:
            raise ConnectionRefusedError(f"nothing listens on port {port} of the simulated network")
        near, far = MemoryTransport(self, ("127.0.0.1", port)), MemoryTransport(self, ("127.0.0.1", 0))
        near.peer, far.peer = far, near
        protocol = factory()
        far.start(server.factory())
        near.start(protocol)
        return near, protocol


class MemoryServer(asyncio.AbstractServer):
    """A server that listens on a port of a :class:`Network`."""

    def __init__(self, network: Network, factory: Callable[[], asyncio.BaseProtocol], sockets: list[Any]) -> None:
        self.factory: Callable[[], asyncio.BaseProtocol] = factory
        self.sockets: tuple[Any, ...] = tuple(sockets)
        self._network = network
        self._ports = [listener.getsockname()[1] for listener in sockets if isinstance(listener.getsockname(), tuple)]
        for port in self._ports:
            network.servers[port] = self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""
        return self._network.loop

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return bool(self._ports)

    async def start_serving(self) -> None:
        """It serves from the first moment."""

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Take no more connections."""
        for port in self._ports:
            self._network.servers.pop(port, None)
        for listener in self.sockets:
            listener.close()
        self._ports, self.sockets = [], ()

    async def wait_closed(self) -> None:
        """Its connections are their owners'."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    peer: MemoryTransport

    def __init__(self, network: Network, peername: tuple[str, int]) -> None:
        super().__init__({"peername": peername, "sockname": ("127.0.0.1", 0)})
        self._network = network
        self._protocol: asyncio.Protocol | None = None
        self._closing = self._lost = False
        self._reading = True
        self._unread: list[bytes | None] = []
        self._arrives = 0.0
        """When the last thing that was sent from here arrives."""
        self._under_way = 0
        self._writer_waits = False

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell the protocol that it is connected."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        protocol.connection_made(self)

    def hold(self, seconds: float) -> None:
        """What is sent from either end arrives that much later than now, at the earliest."""
        until = self._network.loop.time() + seconds
        self._arrives = max(self._arrives, until)
        self.peer._arrives = max(self.peer._arrives, until)

    # -- asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._network.loop.call_soon(self._read_on)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The limits are the network's."""

    def get_write_buffer_size(self) -> int:
        return self._under_way if self._under_way > BUFFER else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, BUFFER

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing:
            self._send(None)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(None)
            self._network.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if self._lost:
            return
        self._closing = True
        loop = self._network.loop
        loop.call_soon(self._lose, None)
        loop.call_later(self._network.delay(), self.peer._lose, ConnectionResetError("the connection was cut"))

    # -- the wire

    def _send(self, data: bytes | None) -> None:
        loop = self._network.loop
        self._arrives = max(self._arrives, loop.time() + self._network.delay())
        self._under_way += len(data or b"")
        if self._under_way > BUFFER and not self._writer_waits and self._protocol is not None:
            self._writer_waits = True
            self._protocol.pause_writing()
        loop.call_at(self._arrives, self.peer._arrive, data)

    def _arrive(self, data: bytes | None) -> None:
        sender = self.peer
        sender._under_way -= len(data or b"")
        if sender._writer_waits and sender._under_way <= BUFFER // 4:
            sender._writer_waits = False
            if not sender._lost and sender._protocol is not None:
                sender._protocol.resume_writing()
        if self._lost:
            return
        self._unread.append(data)
        self._read_on()

    def _read_on(self) -> None:
        while self._unread and self._reading and not self._lost and self._protocol is not None:
            data = self._unread.pop(0)
            if data is not None:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        self._closing = True
        if not self._lost:
            self._lost = True
            if self._protocol is not None:
                self._protocol.connection_lost(error)
