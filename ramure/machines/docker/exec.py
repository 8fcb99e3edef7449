"""One command in a container. How it ended is told by the command's own shell, not by the engine.

An engine's client returns late when something that the command left running holds its output open (docker: after
2 s), and its status does not say whether the command ended or the client lost its engine. So the shell that runs
the command writes a mark before and after it, to both streams: what stands between is the command's output, all of
it, and a status that was not read was not reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ramure.machines.files.framing import MARK, Marks
from ramure.machines.reaper.reaper import KeptCommand, Sink, Source

__all__ = ["RUN", "ContainerCommand"]

RUN = (
    MARK
    + r"""
. "$1/env"; RAMURE_EXEC=$2; export RAMURE_EXEC
ramure_token=$2 ramure_shell=$4 ramure_input=$5
cd -- "$3" || { ramure_mark lost; exit 126; }
ramure_mark "start $$"
shift 5
case $ramure_input in
    none) "$ramure_shell" -c "$@" </dev/null ;;
    data) "$ramure_shell" -c "$@" ;;
    command) "$ramure_shell" -c 'script=$(cat); exec </dev/null; eval "$script"' ;;
esac
ramure_code=$?
ramure_left=
{ read -r ramure_left </proc/$$/task/$$/children; } 2>/dev/null
[ -z "$ramure_left" ] || { sleep 0.1 || sleep 1; } 2>/dev/null
ramure_mark "end $ramure_code"
exit "$ramure_code"
"""
)
"""Runs a command with the shell $4 in the directory $3, with the token $2 and what is prepared in directory $1. $5 says
what standard input is; the command and its arguments follow. What the command leaves running has 0.1 s to say the last of
its output."""

START_LIMIT = 10.0
"""Seconds that a command which is to be killed has for getting to its start."""

CLIENT_LIMIT = 0.5
"""Seconds that the client has for passing on the last output of a command that was killed."""

Kill = Callable[[str, int | None], Awaitable[None]]
"""Called with a command's mark, and its leading process if that is known."""

WithoutMark = Callable[[int, str, bool], Awaitable[int]]
"""Called with the client's status and messages, and whether the command had started, when no end was marked."""


class ContainerCommand:
    """A command that runs in a container (:class:`~ramure.machines.commands.Running`)."""

    def __init__(self, mark: str, output: Sink, kill: Kill, without_mark: WithoutMark) -> None:
        loop = asyncio.get_running_loop()
        self.mark = mark
        self.client: KeptCommand
        self._marks = Marks(mark, output)
        self._kill = kill
        self._without_mark = without_mark
        self._started: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._killed = False

    def feed(self, source: Source, data: bytes) -> None:
        """The sink of the client's output."""
        self._marks.feed(source, data)
        if self._marks.leader is not None and not self._started.done():
            self._started.set_result(None)
        if self._marks.over and not self._over.done():
            self._over.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether its end has been read, or its client has ended."""
        return self._marks.over or self.client.ended

    async def wait(self) -> int:
        async with self._client_ends() as client:
            await self._first(client, self._over)
            if self._marks.over:
                assert self._marks.code is not None
                self.client.close()
                return self._marks.code
            code = await client
            self._marks.rest()
            if self._killed or self._marks.over:
                return code
            if self._marks.lost:
                return await self._without_mark(code, "its working directory cannot be entered", False)
            return await self._without_mark(code, self._marks.messages, self._marks.leader is not None)

    async def kill(self) -> tuple[int, ...]:
        """The tree is killed from a second command in the container: a client ends nothing there by its own end."""
        async with self._client_ends() as client:
            await self._first(client, self._started, self._over, timeout=START_LIMIT)
            if not client.done() and not self._marks.over:
                self._killed = True
                await self._kill(self.mark, self._marks.leader)
                self.client.flow()
                await self._first(client, self._over, timeout=CLIENT_LIMIT)
            if not client.done() and not self._marks.over:
                await self.client.kill()
        return ()

    @contextlib.asynccontextmanager
    async def _client_ends(self) -> AsyncIterator[asyncio.Future[int]]:
        """The engine's client, waited for."""
        client = asyncio.ensure_future(self.client.wait())
        try:
            yield client
        finally:
            client.cancel()
            await asyncio.wait([client])
            if not client.cancelled():
                client.exception()  # seen

    @staticmethod
    async def _first(*waits: asyncio.Future[Any], timeout: float | None = None) -> None:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def pause(self) -> None:
        self.client.pause()

    def resume(self) -> None:
        self.client.resume()

    def close(self) -> None:
        self.client.close()
