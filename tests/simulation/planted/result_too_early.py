"""A result read before it is there: the editor is asked as soon as the outline exists, but the sources come later."""

from __future__ import annotations

import asyncio
from typing import Any

from ramure import agent, agent_process, done, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process
async def part(name: str) -> str:
    author = await agent(name)

    @author.on("finish")
    async def finish(text: str) -> str:
        """Hand in your part."""
        done(text)
        return "Recorded."

    await author.send(f"Task: {name}\nWrite your part, then call finish.")
    return await wait(str)


@agent_process
async def planted() -> str:
    parts: dict[str, str] = {}

    async def collect(name: str) -> None:
        parts[name] = await spawn(part, name)

    outline, sources = (asyncio.create_task(collect(name)) for name in ("outline", "sources"))
    await outline
    text = f"{parts['outline']}, after {parts.get('sources', 'nobody')}"
    await sources
    return text


@agent_process
async def mended() -> str:
    parts: dict[str, str] = {}

    async def collect(name: str) -> None:
        parts[name] = await spawn(part, name)

    await asyncio.gather(*(collect(name) for name in ("outline", "sources")))
    return f"{parts['outline']}, after {parts['sources']}"


FOUND = "after nobody"
"""What its story says."""

ARGS = ()
model = diligent("finish", lambda conversation: {"text": task_of(conversation)})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert run.result == "outline, after sources", run.result
