"""Programs that a test starts with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any


@contextlib.asynccontextmanager
async def started(*argv: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a program with asyncio's ``create_subprocess_exec``. At the end of the block it is killed if it still runs, and
    its pipes are closed, whoever else holds their other ends (what it has forked, say)."""
    process = await asyncio.create_subprocess_exec(*argv, **options)
    try:
        yield process
    finally:
        await ended(process)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Kill it if it still runs, and close its pipes."""
    if process.returncode is None:
        process.kill()
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]
