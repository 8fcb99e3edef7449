"""A simulated pi's connection to the run: as the extension's (``agents/extension/link.ts``), over a real WebSocket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from ramure.agents.wire import (
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    MAX_FRAME,
    SUBPROTOCOL,
    TOKEN_PREFIX,
    ErrorFrame,
    Frame,
    MalformedFrame,
    Ping,
    Pong,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Link", "LinkOwner"]


class LinkOwner(Protocol):
    """Whom a link serves."""

    def hello(self) -> Frame:
        """The first frame of a new connection."""

    def frame(self, frame: Frame) -> None:
        """A frame from the run, in order."""


class Link:
    """Connects, and connects again. ``config`` is the launch's, as the extension reads it.

    ``door`` bounds how many open a connection at once: beyond a server's backlog the kernel drops them for a second.
    """

    def __init__(self, config: Mapping[str, object], owner: LinkOwner, door: asyncio.Semaphore) -> None:
        self._door = door
        self._url = str(config["url"])
        self._token = str(config["token"])
        self._grace = float(str(config["grace"]))
        self._heartbeat = float(str(config["heartbeat"]))
        self._owner = owner
        self._socket: ClientConnection | None = None
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> str:
        """Stay connected; returns why that is over: the run refused, or was away for the grace time."""
        loop = asyncio.get_running_loop()
        down_since, tries = loop.time(), 0
        while loop.time() - down_since <= self._grace:
            try:
                async with self._door:
                    self._socket = await self._connect()
            except (OSError, InvalidHandshake, TimeoutError):
                tries += 1
            else:
                code = await self._converse(self._socket)
                down_since, tries = loop.time(), 1
                if code in (CLOSE_REFUSED, CLOSE_REPLACED):
                    return f"the run closed the connection with {code}"
            await asyncio.sleep(min(1.0, 0.05 * 2**tries))
        return f"the run has been unreachable for {self._grace:g} s"

    async def _connect(self) -> ClientConnection:
        return await connect(
            self._url,
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(TOKEN_PREFIX + self._token)],
            max_size=MAX_FRAME,
            compression=None,
            ping_interval=None,
            close_timeout=1.0,
            proxy=None,
        )

    def send(self, frame: Frame) -> None:
        """Send it, if there is a connection; what must arrive is kept by who sends it."""
        if self._socket is not None:
            self._outgoing.put_nowait(encode(frame))

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection's, while there is one."""
        return None if self._socket is None else self._socket.transport

    def drop(self) -> None:
        """Cut the connection, as a network does."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def close(self, last: Frame) -> None:
        """Send ``last`` behind what is under way, and close the connection; bounded by two seconds."""
        socket = self._socket
        if socket is None:
            return
        self.send(last)
        try:
            async with asyncio.timeout(1.0):
                await self._outgoing.join()
        except TimeoutError:
            socket.transport.abort()  # the run does not read
        else:
            await socket.close()

    async def _converse(self, socket: ClientConnection) -> int | None:
        """One connection, to its end; returns the close code that the run gave."""
        self._outgoing = asyncio.Queue()
        self._outgoing.put_nowait(encode(self._owner.hello()))
        helpers = [asyncio.create_task(self._write(socket)), asyncio.create_task(self._beat())]
        try:
            while True:
                self._receive(await socket.recv())
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
        finally:
            self._socket = None
            socket.transport.abort()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def _receive(self, text: str | bytes) -> None:
        try:
            frame = decode(text)
        except MalformedFrame as error:
            self.send(ErrorFrame(error.code, str(error)))
            return
        if isinstance(frame, Ping):
            self.send(Pong())
        elif not isinstance(frame, Pong):
            self._owner.frame(frame)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.send(await self._outgoing.get())
                self._outgoing.task_done()
        except ConnectionClosed:
            return  # the reader has noticed it too, and tells

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            self.send(Ping())
