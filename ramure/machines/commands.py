"""What machines share whose commands are processes of this host that a reaper started: ``exec`` and ``stream``."""

from __future__ import annotations

import asyncio
import codecs
import tempfile
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import IO, Protocol

from ramure.executor import in_thread
from ramure.machines.base import AGENT, Chunk, ExecStream, Machine
from ramure.machines.errors import ExecTimeout, MachineDown, MachineStopped
from ramure.machines.reaper.reaper import Sink, Source, finished
from ramure.types import ExecResult

__all__ = ["CommandMachine", "Running", "end", "spool", "texts"]

STREAM_AHEAD = 4 << 20
"""Bytes of output that a stream reads ahead of its reader before it holds the command up."""


class Running(Protocol):
    """A command that runs. Its output goes to the sink that it was started with."""

    @property
    def ended(self) -> bool:
        """Whether it is seen to have ended; there may be output of it to be read."""

    async def wait(self) -> int:
        """Its exit status, when it has ended and its output has been read."""

    async def kill(self) -> tuple[int, ...]:
        """End it with everything it started; the pids that could not be killed. Returns when they are gone."""

    def pause(self) -> None:
        """Read no further output for now."""

    def resume(self) -> None:
        """Read on."""

    def close(self) -> None:
        """Read no output any more."""


class CommandMachine(Machine):
    """A machine that can start a command; waiting for it, its timeout and its end are here."""

    _stopped = False

    @abstractmethod
    async def _run(self, command: str, user: str, sink: Sink) -> Running:
        """Start a shell command; returns when it has been started."""

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        running = await self._run(command, user, lambda source, data: output[source].append(data))
        try:
            async with asyncio.timeout(timeout) as limit:
                code = await running.wait()
        except (TimeoutError, asyncio.CancelledError):
            left = await end(running)
            if limit.expired() and timeout is not None:
                stdout, stderr = await texts(output)
                raise ExecTimeout(command, timeout, stdout, stderr, left) from None
            raise
        stdout, stderr = await texts(output)
        return ExecResult(stdout, stderr, code)

    def stream(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecStream:
        return ExecStream(self._chunks(command, user, timeout))

    async def _chunks(self, command: str, user: str, timeout: float | None) -> AsyncIterator[Chunk | int]:
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()
        ahead = 0

        def sink(source: Source, data: bytes) -> None:
            nonlocal ahead
            ahead += len(data)
            queue.put_nowait(Chunk(source, data))
            if ahead > STREAM_AHEAD:
                running.pause()

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        running = await self._run(command, user, sink)
        ending = loop.create_task(running.wait())
        ending.add_done_callback(lambda _: queue.put_nowait(None))
        killing: asyncio.Task[tuple[int, ...]] | None = None

        def expire() -> None:
            nonlocal killing
            if not running.ended:  # else it was in time, and its reader takes longer
                killing = loop.create_task(end(running))
                killing.add_done_callback(lambda _: queue.put_nowait(None))

        timer = None if deadline is None else loop.call_at(deadline, expire)
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
                ahead -= len(chunk.data)
                if ahead <= STREAM_AHEAD // 2:
                    running.resume()
            if killing is not None:
                left = await asyncio.shield(killing)
                raise ExecTimeout(command, timeout or 0, left=left)
            yield await ending
        finally:
            if timer is not None:
                timer.cancel()
            if killing is not None:
                await finished(killing)
            elif not ending.done():
                await end(running)
            if not ending.done():
                ending.cancel()
                await asyncio.wait([ending])


async def end(running: Running) -> tuple[int, ...]:
    """Kill a command and read the rest of its output, whatever happens to the caller meanwhile."""

    async def kill() -> tuple[int, ...]:
        try:
            left = await running.kill()
            if not left:
                await running.wait()
            return left
        except (MachineDown, MachineStopped):  # then the command is gone too
            return ()
        finally:
            running.close()

    task = asyncio.get_running_loop().create_task(kill())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def texts(output: Mapping[str, list[bytes]]) -> tuple[str, str]:
    """A command's collected output as text; much of it is decoded off the event loop."""
    if sum(map(len, output["stdout"])) + sum(map(len, output["stderr"])) < 1 << 20:
        return _text(output["stdout"]), _text(output["stderr"])
    return await in_thread(lambda: (_text(output["stdout"]), _text(output["stderr"])))


def _text(pieces: list[bytes]) -> str:
    """Decode piece by piece: decoding holds the interpreter's lock, and 50 MB at once would hold it long."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    return "".join([decode(piece) for piece in pieces] + [decode(b"", True)])


def spool(data: bytes) -> IO[bytes]:
    """An unnamed file with this content, to be read from its start."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return file
