"""A tool whose calls take effect once for each key of their arguments: ``agent.on(tool, once=key)``."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ramure.agents.tools.results import Picture, Result
from ramure.agents.tools.schema import Tool
from ramure.errors import UsageError

__all__ = ["Done", "Key", "NoSuchArgument", "Once"]

Key = str | Callable[..., Any]
"""The name of an argument, or a function of the handler's arguments. Keys are equal when they are equal as JSON."""


class NoSuchArgument(UsageError):
    """``agent.on(tool, once=)`` names an argument that the handler does not have."""

    def __init__(self, tool: str, name: str, have: list[str]) -> None:
        known = ", ".join(have) or "none"
        super().__init__(f"once={name!r}: the handler of {tool!r} has no such argument (it has: {known})")


@dataclass(frozen=True, slots=True)
class Done:
    """What a call came to; ``by``: the id of the call whose doing it was."""

    text: str
    by: str
    pictures: tuple[Picture, ...] = ()


class Once:
    """The keys for which the tool has done its work. A call that failed has none: it may be made again."""

    def __init__(self, tool: Tool, key: Key) -> None:
        have = list(tool.parameters["properties"])
        if isinstance(key, str) and key not in have:
            raise NoSuchArgument(tool.name, key, have)
        self._tool = tool
        self._key = key
        self._done: dict[str, Done] = {}
        self._running: dict[str, asyncio.Event] = {}

    async def call(self, call_id: str, arguments: dict[str, Any], work: Callable[[], Awaitable[Result]]) -> Done:
        """What the first call with the same key came to, or, as this is the first, what ``work()`` gives.

        A call beside the first one waits for it. Raises what ``work`` raises, InvalidArguments, and what the key
        function raises."""
        key = self._key_of(arguments)
        while (running := self._running.get(key)) is not None:
            await running.wait()
        if key in self._done:
            return self._done[key]
        ended = self._running[key] = asyncio.Event()
        try:
            result = await work()
            done = self._done[key] = Done(result.text, call_id, result.pictures)
            return done
        finally:
            del self._running[key]
            ended.set()

    def _key_of(self, arguments: dict[str, Any]) -> str:
        bound = inspect.signature(self._tool.function).bind(**self._tool.bind(arguments))
        bound.apply_defaults()
        given = bound.arguments
        key = given[self._key] if isinstance(self._key, str) else self._key(**given)
        # As text: an argument may be a list or an object.
        return json.dumps(key, sort_keys=True, default=repr)
