"""A race on a name: who asks for an expert that is just being made makes another one."""

from __future__ import annotations

import asyncio
from typing import Any

from ramure import agent, agent_process, done, wait
from tests.simulation.planted.models import diligent


def office(make_at_once: bool) -> Any:
    @agent_process
    async def desk(questions: int) -> dict[str, int]:
        experts: dict[str, Any] = {}
        answers: list[str] = []

        async def make(name: str) -> Any:
            expert = await agent(name)

            @expert.on("answer", once=lambda text: expert.name)
            async def answer(text: str) -> str:
                """Answer all questions."""
                answers.append(text)
                done({"experts": len(experts), "answers": len(answers)})
                return "Recorded."

            return expert

        async def ask(name: str, question: int) -> None:
            if make_at_once:
                if name not in experts:
                    experts[name] = asyncio.ensure_future(make(name))
                expert = await experts[name]
            else:
                if name not in experts:
                    experts[name] = await make(name)
                expert = experts[name]
            await expert.send(f"Question {question}: what is git?")

        await asyncio.gather(*(ask("git", question) for question in range(questions)))
        return await wait(dict[str, int])

    return desk


planted = office(make_at_once=False)
mended = office(make_at_once=True)

FOUND = "AgentNameTaken"
"""What its story says."""

ARGS = (2,)
model = diligent("answer", lambda conversation: {"text": "a version control system"})
