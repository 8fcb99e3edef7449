"""One round, in a process of its own: ``worker.py TREE`` measures the ramure of that tree, and prints a line of JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

HERE = Path(__file__).parent.parent.parent
sys.path.insert(0, sys.argv[1])
from ramure import ProcessHandle, agent, agent_process, emit, spawn  # noqa: E402

sys.path.insert(0, str(HERE))
from benchmarks.runtime import measure  # noqa: E402
from benchmarks.runtime.fleet import Fleet  # noqa: E402
from benchmarks.runtime.memory import own_home  # noqa: E402
from ramure.testing import InProcessHarness  # noqa: E402

IDLE = 500
AGENTS = 40
LISTINGS = 5
FIRST = 3
"""Measurements of each kind of which the median counts."""


@agent_process
async def idle() -> None:
    emit("ready")
    await asyncio.get_running_loop().create_future()  # wait() would have it found to be stalled


async def memory() -> float:
    """KB for each process that waits."""

    async def body() -> float:
        await spawned(100)  # what the first ones load stays
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        handles = await spawned(IDLE)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / 1024 / len(handles)

    async def spawned(count: int) -> list[ProcessHandle[None]]:
        handles = [spawn(idle) for _ in range(count)]
        for handle in handles:
            await handle.events.listen_for("ready", timeout=60)
        await asyncio.sleep(0.1)  # the log is written
        return handles

    tracemalloc.start()
    try:
        return await measure.in_process(body)
    finally:
        tracemalloc.stop()


async def ready() -> float:
    """Microseconds of CPU time until an agent is ready; it lives in another process."""
    async with Fleet({"text": "x"}) as fleet:

        @agent_process(image=fleet.image)
        async def body() -> float:
            for number in range(5):
                await agent(f"warm{number}")
            began = time.process_time()
            for number in range(AGENTS):
                await agent(f"worker{number}")
            return (time.process_time() - began) / AGENTS * 1e6

        found: float = await body()
        assert not fleet.failures, fleet.failures
        return found


async def restart() -> float:
    """Microseconds of CPU time from a pi's end until its next life is ready, simulated pi included."""
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def body() -> float:
        workers = [await agent(f"worker{number}") for number in range(AGENTS)]
        began = time.process_time()
        for worker in workers:
            harness.kill(worker.address)
        for worker in workers:
            async for event in worker.events:
                if event.type == "state" and event.data["state"] == "idle" and worker.restarts:
                    break
        return (time.process_time() - began) / AGENTS * 1e6

    found: float = await body()
    return found


def listing(tree: str) -> float:
    """Milliseconds of CPU time that ``ramure ls`` takes."""
    took = []
    for _ in range(LISTINGS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "ramure.cli", "ls"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(took) * 1e3


async def main() -> dict[str, float]:
    idle_kb = await memory()
    measure.clock = time.process_time

    async def median(figure: str) -> float:
        return statistics.median([await getattr(measure, figure)() for _ in range(FIRST)])

    return {
        "1,000 processes, ms": await median("processes"),
        "emit → reader, µs": await median("emit_to_reader"),
        "an idle process, KB": idle_kb,
        "handle.call, µs": await median("handle_call"),
        "agent ready, µs": await ready(),
        "restart, µs": await restart(),
        "ramure ls, ms": listing(sys.argv[1]),
    }


if __name__ == "__main__":
    logging.getLogger("ramure").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory, own_home(Path(directory)):
        print(json.dumps(asyncio.run(main())))
