"""A queue that grows without bound: letters come in faster than two clerks answer them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ramure import agent, agent_process, done, each, wait
from tests.simulation.planted.models import diligent, task_of

LETTERS = 16


@dataclass
class Office:
    inbox: list[str] = field(default_factory=list)


@agent_process
async def answer(letter: str) -> str:
    clerk = await agent("clerk")

    @clerk.on("finish")
    async def finish(text: str) -> str:
        """Hand in the answer."""
        done(text)
        return "Recorded."

    await clerk.send(f"Task: {letter}\nAnswer the letter, then call finish.")
    return await wait(str)


def office(most: int) -> Any:
    @agent_process
    async def mail(desk: Office) -> int:
        room = asyncio.Semaphore(most)

        async def post() -> None:
            for number in range(LETTERS):
                await asyncio.sleep(0.5)
                await room.acquire()
                desk.inbox.append(f"letter {number}")

        async def letters() -> Any:
            for _ in range(LETTERS):
                while not desk.inbox:
                    await asyncio.sleep(0.5)
                room.release()
                yield desk.inbox.pop(0)

        posting = asyncio.create_task(post())
        answered = 0
        async for result in each(answer, letters(), limit=2, restart="temporary"):
            answered += result.error is None
        await posting
        return answered

    return mail


planted = office(most=LETTERS)
mended = office(most=4)

FOUND = "letters wait"
"""What its story says."""

ARGS = (Office(),)
model = diligent("finish", lambda conversation: {"text": task_of(conversation)})


def always(run: Any) -> None:
    waiting = len(run.args[0].inbox)
    assert waiting <= 6, f"{waiting} letters wait"
