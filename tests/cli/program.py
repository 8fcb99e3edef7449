"""A program with agents that need no pi, for the command line to look at: ``python program.py [AGENTS [ID]]``."""

from __future__ import annotations

import asyncio
import dataclasses
import sys

from ramure import agent, agent_process, connect, current_runtime, expose, spawn, wait
from ramure.runtime.run import run as runs
from ramure.testing import InProcessHarness, Text, ToolCall


@dataclasses.dataclass
class Task:
    spec: str
    tries: int = 1


harness = InProcessHarness(lambda c: Text("Done.") if c.tool_results else ToolCall("note", {"text": "a note"}))


@agent_process
async def pool() -> None:
    """A child with endpoints."""

    @expose
    def add_task(spec: str, tries: int = 1) -> Task:
        return Task(spec, tries)

    @expose
    def fails() -> None:
        raise ValueError("not today")

    @expose
    def greet(name: str = "you") -> str:
        return f"Hello, {name}."

    await wait()


@agent_process(image=harness.image)
async def main(names: list[str]) -> None:
    spawn(pool)
    made = []
    for name in names:
        one = await agent(name, system_prompt="Be brief.")

        @one.on("note")
        async def note(text: str) -> str:
            """Write something down."""
            return "Noted."

        made.append(one)
    if len(made) > 1:
        await connect(made[0], made[1], direction="forward")
    print("run", current_runtime().execution_id, flush=True)
    await wait()


if __name__ == "__main__":
    if len(sys.argv) > 2:  # the documentation shows the same id each time
        runs.new_execution_id = lambda: sys.argv[2]  # type: ignore[attr-defined]
    try:
        asyncio.run(main(sys.argv[1].split(",") if len(sys.argv) > 1 else ["worker", "other.one"]))
    except Exception as error:
        print(f"ended: {error}", file=sys.stderr)
