"""The methods of an attached run that are about the run, its processes and its agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, Literal

from ramure.executor import in_thread
from ramure.machines.base import Chunk, ExecStream
from ramure.runtime.control.connection import Calls
from ramure.runtime.control.flow import Taken
from ramure.runtime.log.reader import RunLogs
from ramure.runtime.views.status_data import RunStatus
from ramure.types import ExecResult

__all__ = ["RunCalls"]


class RunCalls(Calls):
    """See :mod:`ramure.runtime.control.runs`, and ``docs/control.md`` for what is in the answers."""

    async def status(self) -> RunStatus:
        """The run, its processes, agents, machines, connections and last events: as ``ramure status --json``."""
        status: RunStatus = await self.request("status")
        return status

    async def logs(
        self,
        agent: str | None = None,
        *,
        types: Collection[str] = (),
        since: float | None = None,
        follow: bool = False,
    ) -> AsyncIterator[dict[str, Any]]:
        """What the logs have, of the run and all its agents or of one agent, in the order of time: ``async for entry in
        run.logs("worker", types=["tool_call"])``. With ``follow`` also what comes, until the run has ended.

        ``since`` is in seconds since 1970. Entries are those of ``docs/logs.md``, with ``"log"``, the log's name.
        """
        read = RunLogs(Path((await self.status())["log_dir"]), agent, since=since, types=types)
        try:
            while True:
                live = self._connection.ended is None  # first: what is written until the end is read then
                news = await in_thread(read.news)
                for entry in news:
                    yield entry
                if not (follow and live):
                    return
                if not news:
                    await asyncio.sleep(0.1)  # files tell nobody that they have grown
        finally:
            read.close()

    async def send(self, agent: str, text: str, how: Literal["steer", "queue"] = "steer") -> int:
        """Send an agent a message, durably; returns the number of its entry in the agent's log."""
        answer = await self.request("send", agent=agent, text=text, how=how)
        return int(answer["seq"])

    async def interrupt(self, agent: str) -> None:
        """End what an agent is doing now."""
        await self.request("interrupt", agent=agent)

    async def exec(self, agent: str, command: str, *, user: str = "agent", timeout: float | None = None) -> ExecResult:
        """Run a shell command on an agent's machine."""
        return ExecResult(**await self.request("exec", agent=agent, command=command, user=user, limit=timeout))

    def exec_stream(self, agent: str, command: str, *, user: str = "agent", timeout: float | None = None) -> ExecStream:
        """As :meth:`exec`, iterating over the output as it comes; whoever reads slowly holds the command up. Use
        ``async with``, which ends the command when it is left early."""
        return ExecStream(self._chunks(agent, command, user, timeout))

    async def _chunks(self, agent: str, command: str, user: str, timeout: float | None) -> AsyncIterator[Chunk | int]:
        number, taken = 0, Taken()
        async with await self.stream("exec_stream", agent=agent, command=command, user=user, limit=timeout) as items:
            async for item in items:
                if "data" in item:
                    yield Chunk(item["source"], item["data"])
                    if tell := taken.add(len(item["data"])):
                        await self.request("exec_taken", number=number, items=tell)
                elif "exit_code" in item:
                    yield item["exit_code"]
                else:
                    number = item["number"]

    async def call(self, endpoint: str, /, process: str | None = None, **arguments: Any) -> Any:
        """Call an endpoint of the process that has it, or of the one named."""
        return await self.request("call", endpoint=endpoint, arguments=arguments, process=process)

    async def pause(self, agent: str | None = None) -> list[str]:
        """Pause an agent, or all and those to come: what its model is doing is held up, and so is what comes."""
        paused: list[str] = await self.request("pause", agent=agent)
        return paused

    async def unpause(self, agent: str | None = None) -> list[str]:
        """Undo :meth:`pause`."""
        resumed: list[str] = await self.request("unpause", agent=agent)
        return resumed

    async def stop(self) -> None:
        """End the run; returns when it is told, not when it has ended (:meth:`AttachedRun.wait` does)."""
        await self.request("stop")
