"""The methods of an attached run that are about the run, its processes and its agents."""

from __future__ import annotations

from typing import Any, Literal

from ramure.runtime.control.connection import Calls
from ramure.types import ExecResult

__all__ = ["RunCalls"]


class RunCalls(Calls):
    """See :mod:`ramure.runtime.control.runs`, and ``docs/control.md`` for what is in the answers."""

    async def status(self) -> dict[str, Any]:
        """The run, its processes, agents, machines, connections and last events: as ``ramure status --json``."""
        status: dict[str, Any] = await self.request("status")
        return status

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

    async def call(self, endpoint: str, /, process: str | None = None, **arguments: Any) -> Any:
        """Call an endpoint of the process that has it, or of the one named."""
        return await self.request("call", endpoint=endpoint, arguments=arguments, process=process)

    async def pause(self, agent: str | None = None) -> list[str]:
        """Pause an agent, or all and those to come: what its model is doing ends, and nothing is delivered to it."""
        paused: list[str] = await self.request("pause", agent=agent)
        return paused

    async def unpause(self, agent: str | None = None) -> list[str]:
        """Undo :meth:`pause`."""
        resumed: list[str] = await self.request("unpause", agent=agent)
        return resumed

    async def stop(self) -> None:
        """End the run; returns when it is told, not when it has ended (:meth:`AttachedRun.wait` does)."""
        await self.request("stop")
