"""A lock held across an agent's death: who has begun a release and dies leaves the others waiting."""

from __future__ import annotations

import asyncio
from typing import Any

from ramure import ExecutionFailed, agent, agent_process, done, spawn, wait
from ramure.testing import Conversation, Step, Text, ToolCall


def releasing(given_back: bool) -> Any:
    @agent_process
    async def release(name: str, lock: asyncio.Lock) -> str:
        manager = await agent(name, max_restarts=0)
        holds = [False]

        @manager.on("begin")
        async def begin() -> str:
            """Begin the release; one at a time."""
            if not holds[0]:
                await lock.acquire()
                holds[0] = True
            return "begun"

        @manager.on("commit")
        async def commit() -> str:
            """Commit the release."""
            if holds[0]:
                holds[0] = False
                lock.release()
            done(name)
            return "Recorded."

        await manager.send("Call begin, then commit.")
        try:
            return await wait(str)
        finally:
            if given_back and holds[0]:
                lock.release()

    return release


def station(given_back: bool) -> Any:
    release = releasing(given_back)

    @agent_process
    async def releases(names: list[str]) -> list[str]:
        lock = asyncio.Lock()
        handles = [spawn(release, name, lock) for name in names]
        released = []
        for handle in handles:
            try:
                released.append(await handle)
            except ExecutionFailed:
                continue
        return released

    return releases


planted = station(given_back=False)
mended = station(given_back=True)

FOUND = "hangs: "
"""What its story says."""

ARGS = (["ann", "bob", "cem"],)


def model(conversation: Conversation) -> Step:
    """Begins, commits, and says so."""
    answers = [result.text for result in conversation.tool_results]
    if "Recorded." in answers:
        return Text("It is released.")
    return ToolCall("commit") if "begun" in answers else ToolCall("begin")
