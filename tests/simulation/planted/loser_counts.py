"""A cancelled loser whose work counts: two agents race, and a slower one's patch is applied as well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ramure import agent, agent_process, done, each, wait
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Tree:
    patches: list[str] = field(default_factory=list)

    async def apply(self, patch: str) -> None:
        """Apply a patch, and run the tests on it."""
        self.patches.append(patch)
        await asyncio.sleep(20)


@agent_process
async def hasty(racer: tuple[Tree, str]) -> str:
    tree, name = racer
    coder = await agent(name)

    @coder.on("finish", once=lambda patch: name)
    async def finish(patch: str) -> str:
        """Hand in your patch."""
        await tree.apply(patch)
        done(patch)
        return "Recorded."

    await coder.send(f"Task: {name}\nMend the bug, then call finish.")
    return await wait(str)


@agent_process
async def patient(racer: tuple[Tree, str]) -> str:
    _, name = racer
    coder = await agent(name)

    @coder.on("finish")
    async def finish(patch: str) -> str:
        """Hand in your patch."""
        done(patch)
        return "Recorded."

    await coder.send(f"Task: {name}\nMend the bug, then call finish.")
    return await wait(str)


@agent_process
async def planted(tree: Tree, names: list[str]) -> str:
    async for result in each(hasty, [(tree, name) for name in names], limit=len(names), restart="temporary"):
        if result.error is None:
            return result.value
    return ""


@agent_process
async def mended(tree: Tree, names: list[str]) -> str:
    async for result in each(patient, [(tree, name) for name in names], limit=len(names), restart="temporary"):
        if result.error is None:
            await tree.apply(result.value)
            return result.value
    return ""


FOUND = "applied: ["
"""What its story says."""

ARGS = (Tree(), ["ann", "bob"])
model = diligent("finish", lambda conversation: {"patch": task_of(conversation)})


def at_end(run: Any) -> None:
    if run.succeeded and run.result:
        assert run.args[0].patches == [run.result], f"won: {run.result}; applied: {run.args[0].patches}"
