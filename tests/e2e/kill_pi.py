"""``python -m tests.e2e.kill_pi 20``: kill -9 of pi in the middle of a turn, so many times; prints the figures."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import sys
import time
from typing import Any

from ramure.testing import Hang, ScriptedModel, Text, ToolCall
from ramure.testing.leaks import find_leaks, new_run
from tests.conftest import _installed
from tests.e2e.kit import Stage

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, wait

@agent_process
async def main():
    worker = await agent("worker", restart="temporary")

    @worker.on("hold")
    async def hold() -> str:
        \"\"\"Holds.\"\"\"
        print("tool runs", flush=True)
        await asyncio.Event().wait()

    print("run", current_runtime().execution_id, flush=True)
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""

TURNS: dict[str, list[Any]] = {
    "model hangs": [Hang()],
    "tool runs": [ToolCall("hold")],
    "text streams": [[Text("word " * 2000, chunk=5, pause=0.02)]],
}
"""In which middle of a turn pi is killed."""


async def kill_once(stage: Stage, turn: str) -> float:
    """Kill pi in such a turn; seconds until the program has ended, with AgentDied and its reason."""
    async with ScriptedModel(TURNS[turn]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            if turn == "tool runs":
                await program.says("tool runs")
            else:
                await model.wait_for_requests(1, timeout=40)
            [pi] = stage.panes(run_id)
            killed = time.monotonic()
            os.kill(pi, signal.SIGKILL)
            status = await program.ends(40)
            took = time.monotonic() - killed
    assert status == 1, program.said
    assert re.search(r"AgentDied: agent 'worker' died: .*pi was killed by signal 9", program.said), program.said
    return took


async def main(times: int) -> None:
    took = []
    for number in range(times):
        turn = list(TURNS)[number % len(TURNS)]
        with new_run() as run:
            took.append(await kill_once(Stage(_installed("toolchain"), run), turn))
            leaks = await asyncio.to_thread(run.wait_until_clean)
            assert not find_leaks(run), leaks
        print(f"{number + 1:3} {turn:<13} {took[-1]:.3f} s", flush=True)
    within = sum(seconds <= 2 for seconds in took)
    print(f"{within} of {times} within 2 s; median {statistics.median(took):.3f} s, most {max(took):.3f} s")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
