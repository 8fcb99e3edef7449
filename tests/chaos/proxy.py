"""A way to the gateway that a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Passes connections on to ``target``, a port of this host; ``cut()`` resets those there are."""

    def __init__(self) -> None:
        self.target = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        cut = {writer.transport for writer in self._writers}
        for transport in cut:
            transport.abort()
        return len(cut) // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = [writer]
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self.target)
            pair.append(back)
            self._writers.update(pair)
            await asyncio.gather(_pump(reader, back), _pump(onward, writer))
        except OSError:  # refused or cut: the other side is told by the end of its connection
            return
        finally:
            for one in pair:
                self._writers.discard(one)
                one.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
