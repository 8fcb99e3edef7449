"""Clearing away after a pi that died: beside the mailboxes, for its death is told before its last process is gone."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

__all__ = ["Cleanups"]


class Cleanups:
    """What is being cleared away of one agent. Whoever comes after it waits: its next pi, which has the same name in tmux
    and the same session file, and the agent's own end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, clearing: Coroutine[Any, Any, None], name: str) -> None:
        """Clear away from now on, whatever happens to those who wait for it."""
        # A context of its own: what is asked in it is not asked by an actor that has ended.
        task = self._loop.create_task(clearing, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when nothing is being cleared away."""
        while self._tasks:
            await asyncio.wait(self._tasks)
