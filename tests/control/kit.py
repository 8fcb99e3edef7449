"""A run to look into, and a client that may send anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ramure import agent, agent_process, current_runtime, expose
from ramure.runtime.control.values import pack, unpacker
from ramure.runtime.run.run import Run
from ramure.testing import InProcessHarness, Text


class Raw:
    """A connection that sends what the test says, byte by byte if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = unpacker(1 << 26)

    async def send(self, *frames: Any) -> None:
        """Frames, one after the other."""
        await self.bytes(b"".join(map(pack, frames)))

    async def bytes(self, data: bytes) -> None:
        """Anything."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> Any:
        """The next frame; None at the end of the connection."""
        while True:
            try:
                return next(self._frames)
            except StopIteration:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self._frames.feed(data)

    async def all(self) -> list[Any]:
        """All frames to the connection's end."""
        frames = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        return frames

    async def ask(self, method: Any, arguments: Any = None, number: Any = 1) -> Any:
        """One request, and the next frame."""
        await self.send([number, method, arguments if arguments is not None else {}])
        return await self.receive()


@asynccontextmanager
async def raw(run: Run) -> AsyncIterator[Raw]:
    """A raw connection to a run."""
    reader, writer = await asyncio.open_unix_connection(str(run.paths.socket))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def in_run(
    test: Callable[[Run], Awaitable[Any]], *agents: str, expose_also: tuple[Callable[..., Any], ...] = ()
) -> Any:
    """Run ``test(run)`` in a run with these agents, whose model answers "Yes." to all."""
    harness = InProcessHarness(lambda _: Text("Yes."))

    @agent_process(image=harness.image)
    async def main() -> Any:
        for function in expose_also:
            expose(function)
        for name in agents:
            await agent(name)
        return await test(current_runtime())

    return await main()
