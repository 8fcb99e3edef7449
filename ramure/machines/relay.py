"""A port at one of this host's addresses, made reachable at another: one of the loopback address at a container bridge's,
or the other way round."""

from __future__ import annotations

import asyncio

__all__ = ["Relay"]

SIZE = 1 << 16


class Relay:
    """Passes connections to ``address`` on to ``port`` at ``to``. Use :meth:`start`."""

    def __init__(self, port: int, to: str) -> None:
        self._target = to, port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    async def start(cls, address: str, port: int, to: str = "127.0.0.1") -> Relay:
        """Listen on a free port of ``address``. Raises OSError if it is none of this host's."""
        relay = cls(port, to)
        relay._server = await asyncio.start_server(relay._serve, address, 0, limit=SIZE)
        relay.port = relay._server.sockets[0].getsockname()[1]
        return relay

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        ends = [writer]
        try:
            here_reader, here_writer = await asyncio.open_connection(*self._target, limit=SIZE)
            ends.append(here_writer)
            await asyncio.gather(_pump(reader, here_writer), _pump(here_reader, writer))
        except OSError:  # nobody listens here, or either side broke: as if the port were closed
            return
        finally:
            for end in ends:
                end.close()
            self._links.discard(task)

    async def stop(self) -> None:
        """Close it, with the connections that it carries."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the source ends."""
    while data := await reader.read(SIZE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
