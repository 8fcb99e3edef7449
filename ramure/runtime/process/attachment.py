"""``handle.attach(agent)``: the endpoints of a process, or of a place in a tree, as tools of an agent."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from ramure.agents.requests import AddTool
from ramure.agents.tools.schema import Tool, check_tool
from ramure.errors import ActorDied
from ramure.runtime.errors import AgentDied

if TYPE_CHECKING:
    from ramure.runtime.process.endpoints import Endpoint
    from ramure.runtime.process.record import AgentRecord, ProcessRecord

__all__ = ["Attachment"]


class Attachment:
    """Makes a tool of each endpoint that it is shown, which calls it through ``call``.

    ``only``: just these; ``prefix`` goes before each tool's name.
    """

    def __init__(
        self,
        agent: AgentRecord,
        call: Callable[..., Coroutine[Any, Any, Any]],
        only: Iterable[str] | None,
        prefix: str,
    ) -> None:
        if agent.ref is None:
            raise AgentDied(agent.name, agent.ended)
        self._agent = agent
        self._ref = agent.ref
        self._call = call
        self._only = None if only is None else set(only)
        self._prefix = prefix
        self._attached: set[str] = set()
        # What a tool does, it does for who has attached it, whenever its endpoint came.
        self._context = contextvars.copy_context()

    @property
    def over(self) -> bool:
        """True when the agent has ended: no endpoint matters to it any more."""
        return not self._ref.is_alive()

    def present(self, record: ProcessRecord) -> list[asyncio.Future[Any]]:
        """The endpoints that ``record`` has; the agent's answers, to be awaited. Raises UnsupportedParameter or BadTool,
        before any is added."""
        tools = {name: self._tool(name, endpoint) for name, endpoint in record.endpoints.items() if self._wants(name)}
        return [self._add(name, tool) for name, tool in tools.items()]

    def exposed(self, record: ProcessRecord, name: str, endpoint: Endpoint) -> None:
        """A further endpoint. What cannot be a tool is the attacher's affair, not that of ``record``, whose code this is
        called in: it is told, and raises nothing."""

        def told(error: BaseException) -> None:
            agent = self._agent.address
            record.run.warn(
                record.path, f"its endpoint {name!r} is no tool of agent {agent!r}, attached to it: {error}"
            )

        def answered(answer: asyncio.Future[Any]) -> None:
            error = None if answer.cancelled() else answer.exception()
            if error is not None and not isinstance(error, ActorDied):
                told(error)

        if not self._wants(name):
            return
        try:
            self._add(name, self._tool(name, endpoint)).add_done_callback(answered)
        except Exception as error:
            told(error)

    def _wants(self, name: str) -> bool:
        return name not in self._attached and (self._only is None or name in self._only)

    def _tool(self, name: str, endpoint: Endpoint) -> Tool:
        async def through(**arguments: Any) -> Any:
            return await self._call(name, **arguments)

        hints = endpoint.signature.hints if endpoint.signature is not None else None
        made = Tool.of(endpoint.function, check_tool(endpoint.function, self._prefix + name), hints)
        return dataclasses.replace(made, function=through, converts=False)

    def _add(self, name: str, tool: Tool) -> asyncio.Future[Any]:
        self._attached.add(name)
        self._agent.tools.add(tool.name)
        return self._ref.request(AddTool(tool, self._context.copy()))
