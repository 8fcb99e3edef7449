"""One command in a container. How it ended is told by the command's own shell, not by the engine.

An engine's client returns late when something that the command left running holds its output open (docker: after
2 s), and its status does not say whether the command ended or the client lost its engine. So the shell that runs
the command writes a mark before and after it, to both streams: what stands between is the command's output, all of
it, and a status that was not read was not reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ramure.machines.keeper import KeptCommand, Sink, Source

__all__ = ["RUN", "ContainerCommand", "Marks", "new_mark"]

RUN = r"""
. "$1/env"; RAMURE_EXEC=$2; export RAMURE_EXEC
mark=$2 shell=$4 input=$5
cd -- "$3" || { printf '\036%s lost\n' "$mark"; exit 126; }
printf '\036%s start %s\n' "$mark" $$
shift 5
case $input in
    none) "$shell" -c "$@" </dev/null ;;
    data) "$shell" -c "$@" ;;
    command) "$shell" -c 'script=$(cat); exec </dev/null; eval "$script"' ;;
esac
code=$?
printf '\036%s end %s\n' "$mark" "$code"
printf '\036%s end %s\n' "$mark" "$code" >&2
exit "$code"
"""
"""Runs a command with the shell $4 in the directory $3, with the mark $2 and what is prepared in directory $1. $5 says
what standard input is; the command and its arguments follow."""

START_LIMIT = 10.0
"""Seconds that a command which is to be killed has for getting to its start."""

CLIENT_LIMIT = 0.5
"""Seconds that the client has for passing on the last output of a command that was killed."""

Kill = Callable[[str, int | None], Awaitable[None]]
"""Called with a command's mark, and its leading process if that is known."""

WithoutMark = Callable[[int, str, bool], Awaitable[int]]
"""Called with the client's status and messages, and whether the command had started, when no end was marked."""


_MARKED = re.compile(rb"(start|end|lost) ?([0-9]{0,10})\n")
_LONGEST = len(b"start 1234567890\n")


class Marks:
    """Takes the marks out of a command's output. No I/O."""

    def __init__(self, mark: str, output: Sink) -> None:
        self._output = output
        self._mark = b"\x1e" + mark.encode() + b" "
        self._held = {"stdout": b"", "stderr": b""}
        self._open = {"stdout", "stderr"}
        self._before = b""
        self.leader: int | None = None
        self.lost = False
        self.code: int | None = None

    @property
    def over(self) -> bool:
        """Whether the end was marked on both streams."""
        return not self._open

    @property
    def messages(self) -> str:
        """What came on stderr before the start, when there was none: the client's own words."""
        return (self._before + self._held["stderr"]).decode(errors="replace").strip()

    def feed(self, source: Source, data: bytes) -> None:
        if source not in self._open:
            return  # of something that runs on after its command
        data = self._held[source] + data
        self._held[source] = b""
        start = 0
        while (at := data.find(self._mark, start)) >= 0:
            marked = _MARKED.match(data, at + len(self._mark))
            if marked is None:
                if len(data) - at < len(self._mark) + _LONGEST and b"\n" not in data[at:]:
                    break  # it has not all come yet
                start = at + 1  # the command's own, who knows why
                continue
            self._emit(source, data[:at])
            self._marked(source, marked[1], int(marked[2] or 0))
            if source not in self._open:
                return
            data, start = data[marked.end() :], 0
        keep = len(data) - at if at >= 0 else self._begun(data)
        self._emit(source, data[: len(data) - keep])
        self._held[source] = data[len(data) - keep :]

    def rest(self) -> None:
        """Pass on what was held back, when no more will come."""
        for source in ("stdout", "stderr"):
            if source in self._open and self._held[source]:
                held, self._held[source] = self._held[source], b""
                self._emit(source, held)

    def _marked(self, source: Source, word: bytes, number: int) -> None:
        if word == b"start":
            self.leader = number
            if self._before:  # it came by the other stream
                self._output("stderr", self._before)
        elif word == b"lost":
            self.lost = True
        else:
            self.code = number
            self._open.discard(source)

    def _emit(self, source: Source, data: bytes) -> None:
        if not data:
            return
        if self.leader is None and source == "stderr":
            self._before += data
        else:
            self._output(source, data)

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of a mark."""
        for size in range(min(len(data), len(self._mark) - 1), 0, -1):
            if self._mark.startswith(data[-size:]):
                return size
        return 0


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


def new_mark() -> str:
    """A word that no output holds by chance."""
    return os.urandom(16).hex()
