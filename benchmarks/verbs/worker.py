"""One round, in a process of its own: ``worker.py TREE`` measures the ramure of that tree, and prints a line of JSON.

What is measured is the CPU time of this process, that of the run: its agent lives in another one (benchmarks/runtime/client.py),
which is of this tree whichever is measured.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).parent.parent.parent
sys.path.insert(0, sys.argv[1])
from ramure import agent, agent_process  # noqa: E402

sys.path.insert(0, str(HERE))
from benchmarks.runtime.fleet import Fleet  # noqa: E402
from benchmarks.runtime.memory import own_home  # noqa: E402

SENDS, ASKS, TRIPS = 3000, 1000, 3000
WARM = 200


async def measured(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Microseconds of CPU time for each."""
    await work(WARM)
    began = time.process_time()
    await work(count)
    return (time.process_time() - began) / count * 1e6


async def main() -> dict[str, float]:
    async with Fleet({"text": "x" * 100}) as fleet:

        @agent_process(image=fleet.image)
        async def body() -> dict[str, float]:
            worker = await agent("worker")

            @worker.on("echo")
            async def echo(text: str) -> str:
                """Say it again."""
                return text

            async def sends(count: int) -> None:
                for _ in range(count):
                    await worker.send("Take this.")

            async def asks(count: int) -> None:
                for _ in range(count):
                    await worker.ask("ask")

            async def trips(count: int) -> None:
                await worker.ask(f"trips {count}")

            return {
                "send": await measured(sends, SENDS),
                "ask": await measured(asks, ASKS),
                "tool round trip": await measured(trips, TRIPS),
            }

        found: dict[str, float] = await body()
        assert not fleet.failures, fleet.failures
        return found


if __name__ == "__main__":
    logging.getLogger("ramure").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory, own_home(Path(directory)):
        print(json.dumps(asyncio.run(main())))
