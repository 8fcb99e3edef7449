"""A monitor that replaces workers which fall silent: a model hangs, and another worker takes the part over.

    python examples/monitor.py

Each worker reports its progress by a tool. The monitor looks at the times of their events, and restarts the process of one
that has been silent for too long: a new agent, with the same part. On the model of the tests it prints:

    'roof' was silent: replaced
    {'walls': 'The walls stand.', 'roof': 'The roof is on.'}
"""
# test: pi=monitor; prints='roof' was silent: replaced; seconds=180

import asyncio
import time
from collections import Counter

from ramure import TreeHandle, agent, agent_process, child, done, emit, start_task, supervise, wait

SILENT = 8.0
"""Seconds; choose it for your models."""

tries: Counter[str] = Counter()


@agent_process
async def worker(part: str) -> str:
    tries[part] += 1
    builder = await agent("builder")

    @builder.on("progress")
    async def on_progress(what: str) -> str:
        """Say what you have done so far."""
        emit("progress", what)
        return "Go on."

    @builder.on("finish")
    async def on_finish(result: str) -> str:
        """Call with the result when the part is done."""
        done(result)
        return "Recorded."

    await builder.send(f"Try {tries[part]}. Your part: {part}. Report with progress(what), then call finish(result).")
    emit("asked")
    return await wait(str)


@agent_process
async def build(parts: list[str]) -> dict[str, str]:
    tree = await supervise(*(child(worker, part, id=part) for part in parts))
    start_task(replace_silent(tree))
    return await tree


async def replace_silent(tree: TreeHandle[str]) -> None:
    while True:
        await asyncio.sleep(1)
        for part, place in tree.children.items():
            last = place.events.snapshot()[-1]
            if last.type in ("asked", "progress") and time.time() - last.at > SILENT:
                await place.restart()
                print(f"{part!r} was silent: replaced")


if __name__ == "__main__":
    print(asyncio.run(build(["walls", "roof"])))
