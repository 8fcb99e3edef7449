"""``python -m tests.e2e.kill_program 10``: SIGKILL of the Python program at one moment after another; what is left?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from ramure.testing import Hang, ScriptedModel, ToolCall
from ramure.testing.leaks import new_run
from tests.conftest import _installed
from tests.e2e.kit import Stage, owned, until

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    worker = await agent("worker")

    @worker.on("hold")
    async def hold() -> str:
        \"\"\"Holds.\"\"\"
        print("tool runs", flush=True)
        await asyncio.Event().wait()

    print("agent ready", flush=True)
    await worker.exec("setsid nohup sleep 600 >/dev/null 2>&1 &")
    await worker.send("Begin.")
    print("message sent", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

MOMENTS = ("pi starts", "agent ready", "message sent", "model asked", "tool runs")
LIMIT = 15.0


async def kill_once(stage: Stage, moment: str) -> float:
    """Kill the program at such a moment; seconds until nothing of its run is left."""
    async with ScriptedModel([[ToolCall("hold")] if moment == "tool runs" else [Hang()]]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            if moment == "pi starts":
                socket = stage.scratch(run_id) / "tmux" / "server"
                await until(lambda: socket.exists() and stage.panes(run_id), 10, "a pane of the run")
            elif moment == "model asked":
                await model.wait_for_requests(1, timeout=20)
            else:
                await program.says(moment)
            program.signal(signal.SIGKILL)
            assert await program.ends(2) == -signal.SIGKILL
            return await nothing_left(stage, run_id)


async def nothing_left(stage: Stage, run_id: str) -> float:
    """Wait until there is no process, temporary file or socket of the run; the seconds it took."""
    began = time.monotonic()
    while left := [*owned(run_id), *files(stage, run_id)]:
        assert time.monotonic() - began < LIMIT, f"left of the run: {left}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def files(stage: Stage, run_id: str) -> list[str]:
    """The run's scratch directory and what is in it, and its socket."""
    scratch = str(stage.scratch(run_id))
    found = [os.path.join(here, name) for here, _, names in os.walk(scratch) for name in (".", *names)]
    return [*found, *map(str, stage.run.home.glob(f"runtimes/{run_id}*"))]


async def main(times: int) -> None:
    took = []
    for number in range(times):
        moment = MOMENTS[number % len(MOMENTS)]
        with new_run() as run:
            took.append(await kill_once(Stage(_installed("toolchain"), run), moment))
            leaks = await asyncio.to_thread(run.wait_until_clean)
            assert not leaks, leaks
        print(f"{number + 1:3} {moment:<13} {took[-1]:.3f} s", flush=True)
    print(f"nothing left {times} times of {times}; most {max(took):.3f} s")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
