"""How soon after its timeout all that a command started is gone, on each kind of machine that the contract runs over."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from ramure.machines.base import Machine
from ramure.machines.errors import ExecTimeout
from tests.machines.conftest import ROWS, Row, end_shared
from tests.machines.processes import still_there

__all__ = ["measure"]

LIMITS = {"local": 0.5, "ssh": 1.0}
"""Seconds in which they must be gone; 2 where nothing is said."""
TRIALS = 5
TIMEOUT = 1.5

TREE = """
    (env -i setsid sh -c 'echo $$ >> pids; sleep 1003; true' &)
    (setsid nohup sh -c 'trap "" TERM HUP INT; echo $$ >> pids; while :; do sleep 1; done' &)
    echo $$ >> pids; (sleep 1001 & echo $! >> pids); sleep 1004; true"""
"""Daemons in sessions of their own, one of which hears no signal, and two processes that are below the command."""

GROUP = "echo $$ >> pids; (sleep 1001 & echo $! >> pids); sleep 1004; true"


async def one(machine: Machine, row: Row) -> float:
    """Seconds from the end of its time until nothing of the command was seen any more."""
    await machine.exec("rm -f pids")
    over = time.monotonic() + TIMEOUT
    try:
        await machine.exec(TREE if row.stragglers else GROUP, timeout=TIMEOUT)
    except ExecTimeout:
        pids = [int(pid) for pid in (await machine.read_file("pids")).split()]
    else:
        raise AssertionError("it ended in time")
    assert len(pids) == (4 if row.stragglers else 2), pids
    while await still_there(machine, row, pids):
        assert time.monotonic() < over + 30, f"still there: {row.name}"
    return time.monotonic() - over


async def measure() -> list[tuple[str, float, float, float]]:
    """For each kind of machine: its name, the median and the worst of the seconds, and the limit."""
    found = []
    try:
        for row in ROWS:
            if not row.processes:
                continue
            with tempfile.TemporaryDirectory(prefix="ramure-bench-", dir="/tmp") as directory:
                machine = await row.image(Path(directory)).spawn()
                taken = [await one(machine, row) for _ in range(TRIALS)]
                await machine.stop()
            found.append((row.name, statistics.median(taken), max(taken), LIMITS.get(row.name, 2.0)))
    finally:
        await asyncio.to_thread(end_shared)
    return found
