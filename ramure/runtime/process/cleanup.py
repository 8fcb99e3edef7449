"""Ending tasks: each gets its time for cleanup, and none gets more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["CLEANUP", "end_tasks"]

CLEANUP: Final = 3.0
"""Seconds that cancelled code has for its cleanup before it is abandoned."""


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], seconds: float = CLEANUP) -> list[asyncio.Task[Any]]:
    """Cancel ``tasks`` and wait for their ends. Those that do not end within ``seconds``, because they swallowed
    the cancellation or their cleanup hangs, are ended where they stand, and returned."""
    running = [task for task in tasks if not task.done()]
    if not running:
        return []
    for task in running:
        task.cancel()
    _, late = await asyncio.wait(running, timeout=seconds)
    for task in late:
        _abandon(task)
    return list(late)


def _abandon(task: asyncio.Task[Any]) -> None:
    """Raise GeneratorExit where it waits: it can wait for nothing any more, so it runs no further."""
    coroutine: Any = task.get_coro()
    try:
        coroutine.close()
    except RuntimeError:  # it awaits even so: it gets nothing to run with, and what is left of it goes unreferenced
        pass
    task.cancel()  # wakes the task, which finds its coroutine at its end
