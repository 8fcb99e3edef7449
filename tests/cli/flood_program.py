"""The program that is flooded: an agent, an endpoint, and a body that measures how late its own timers are."""

from __future__ import annotations

import asyncio
import time

from ramure import agent, agent_process, current_runtime, expose
from ramure.testing import InProcessHarness, Text

EVERY = 0.005

harness = InProcessHarness(lambda _: Text("Done."))


@agent_process(image=harness.image)
async def main() -> None:
    late: list[float] = []

    @expose
    def greet(name: str) -> str:
        return f"Hello, {name}."

    @expose
    def lateness() -> list[float]:
        """Seconds by which each timer was late, since the last time."""
        told, late[:] = late[:], []
        return told

    await agent("worker")
    print("run", current_runtime().execution_id, flush=True)
    while True:
        began = time.perf_counter()
        await asyncio.sleep(EVERY)
        late.append(time.perf_counter() - began - EVERY)
        harness.requests.clear()  # for tests it keeps every request, each with the whole conversation


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
