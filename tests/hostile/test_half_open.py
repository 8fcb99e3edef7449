"""10,000 half-open connections of another user, at a soft limit of 1,024 descriptors: agents take their turns as before."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hostile.victim import Victim

COUNT = 10_000
SECONDS = 60
ROUNDS = 4
HELD = 512
"""Connections that the other program holds, each for a second, as the gateway does; others it closes."""

pytestmark = [pytest.mark.edges, pytest.mark.timeout(400)]


@contextlib.asynccontextmanager
async def another_program() -> AsyncIterator[int]:
    """A server of somebody else's, in a process of its own; its port."""
    code = f"""
import asyncio
async def main():
    held = 0
    async def serve(reader, writer):
        nonlocal held
        if held < {HELD}:
            held += 1
            await asyncio.sleep(1)
            held -= 1
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def flood(port: int, seconds: float) -> int:
    program = Path(__file__).with_name("half_open.py").read_text()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", program, str(port), str(seconds), str(COUNT), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return int(said)


async def test_agents_turns_take_no_longer_than_while_another_port_is_flooded(tmp_path: Path) -> None:
    figures: dict[str, list[float]] = {"ours": [], "theirs": []}
    made = dict.fromkeys(figures, 0)
    async with another_program() as theirs, Victim(tmp_path, limit=1024) as victim:
        for name in ["theirs", "ours"] * ROUNDS:
            await victim.begin()
            made[name] += await flood(victim.port if name == "ours" else theirs, SECONDS / ROUNDS)
            looked = await victim.figures()
            assert looked["restarts"] == 0
            assert looked["peak"] - looked["start"] < 200
            figures[name].append(looked["median"])
        errors = await victim.end()
    ours, others = (statistics.median(figures[name]) for name in ("ours", "theirs"))
    print(
        f"{made} connections; a turn takes {ours * 1e3:.2f} ms, beside the other flood {others * 1e3:.2f} ms; {figures}"
    )
    assert "Traceback" not in errors, errors
    assert ours <= 1.5 * others
