"""The program of ``docs/cli.md``, on real pi and a scripted model: ``python docs_program.py ID``."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from ramure import agent, agent_process, connect, current_runtime, expose, spawn, wait
from ramure.actors import Actor
from ramure.runtime.run import run as runs
from ramure.testing import Conversation, ScriptedModel, Step, Text, ToolCall
from tests.cli.program import pool


class Clerk(Actor):
    """Takes long over each of its letters."""

    async def handle_info(self, message: object) -> None:
        await asyncio.sleep(3600)


def answers(conversation: Conversation) -> Step:
    if "Write it down" in conversation.last_user_text and not conversation.tool_results:
        return ToolCall("note", {"text": "a note"})
    return Text("Yes, I am." if "Are you there?" in conversation.last_user_text else "Done.")


@agent_process
async def main() -> None:
    spawn(pool)
    worker = await agent("worker", system_prompt="Be brief.")
    other = await agent("other.one")

    @worker.on("note")
    async def note(text: str) -> str:
        """Write something down."""
        return "Noted."

    await connect(worker, other, direction="forward")

    @expose
    async def write_letters() -> None:
        clerk = await current_runtime().system.options(label="clerk").start(Clerk)
        for number in range(4):
            clerk.tell(f"letter {number + 1}")

    print("run", current_runtime().execution_id, flush=True)
    await wait()


async def with_a_model() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with ScriptedModel(answers) as model:
            os.environ.update(model.write_config(Path(directory)))
            await main()


if __name__ == "__main__":
    runs.new_execution_id = lambda: sys.argv[1]  # type: ignore[attr-defined] # the page shows the same id each time
    try:
        asyncio.run(with_a_model())
    except Exception as error:
        print(f"ended: {error}", file=sys.stderr)
