"""One tree's part of the benchmark, in a process of its own: ``worker.py TREE`` uses the ramure of that tree.

Each line on stdin is a verb; the answer is a line with the microseconds of CPU time that one of its calls takes this process,
the run's. Its agent lives in another one (benchmarks/runtime/client.py), which is of this tree whichever is measured.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).parent.parent.parent
sys.path.insert(0, sys.argv[1])
from ramure import agent, agent_process  # noqa: E402
from ramure.runtime.log import writer as logs  # noqa: E402

sys.path.insert(0, str(HERE))
from benchmarks.runtime.fleet import Fleet  # noqa: E402
from benchmarks.runtime.memory import own_home  # noqa: E402

COUNTS = {"send": 100, "ask": 30, "tool round trip": 100}
"""Calls of each verb in one piece."""


async def main() -> None:
    async with Fleet({"text": "x" * 100}) as fleet:

        @agent_process(image=fleet.image)
        async def body() -> None:
            worker = await agent("worker")

            @worker.on("echo")
            async def echo(text: str) -> str:
                """Say it again."""
                return text

            async def sends(count: int) -> None:
                for _ in range(count):
                    await worker.send("Take this.")
                await worker.ask("ask")  # its answer comes behind all that the agent says of the messages

            async def asks(count: int) -> None:
                for _ in range(count):
                    await worker.ask("ask")

            async def trips(count: int) -> None:
                await worker.ask(f"trips {count}")

            verbs: dict[str, Callable[[int], Awaitable[None]]] = {
                "send": sends,
                "ask": asks,
                "tool round trip": trips,
            }
            while verb := (await asyncio.to_thread(sys.stdin.readline)).strip():
                count = COUNTS[verb]
                began = time.process_time()
                await verbs[verb](count)
                print((time.process_time() - began) / count * 1e6, flush=True)

        await body()
        assert not fleet.failures, fleet.failures


if __name__ == "__main__":
    logs.SLOW = math.inf  # type: ignore[misc]  # a busy machine makes a write late: for seconds, one of the trees would write in a thread
    logging.getLogger("ramure").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory, own_home(Path(directory)):
        asyncio.run(main())
