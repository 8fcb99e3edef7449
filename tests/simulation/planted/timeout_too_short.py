"""A timeout shorter than a restart: an agent that is just being started again counts as one that has no answer."""

from __future__ import annotations

import asyncio
from typing import Any

from ramure import agent, agent_process, done, fail, wait
from tests.simulation.planted.models import diligent


@agent_process
async def forecast() -> str:
    oracle = await agent("oracle")

    @oracle.on("finish")
    async def finish(weather: str) -> str:
        """Hand in the weather of tomorrow."""
        done(weather)
        return "Recorded."

    await oracle.send("What will the weather be? Call finish with it.")
    return await wait(str)


@agent_process
async def planted() -> str:
    try:
        async with asyncio.timeout(10):
            return await forecast()
    except TimeoutError:
        return "no weather"


@agent_process
async def mended() -> str:
    try:
        async with asyncio.timeout(3600):
            return await forecast()
    except TimeoutError:
        fail("there was no forecast within an hour")
        return await wait(str)


FOUND = "the forecast: no weather"
"""What its story says."""

ARGS = ()
model = diligent("finish", lambda conversation: {"weather": "rain"})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert run.result == "rain", f"the forecast: {run.result}"
