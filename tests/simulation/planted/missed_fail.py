"""A missed failure: the children put their results into a queue, and one that fails puts nothing there."""

from __future__ import annotations

import asyncio

from ramure import ExecutionFailed, agent, agent_process, bubble, done, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process
async def translate(word: str, results: asyncio.Queue[tuple[str, str | None]]) -> None:
    translator = await agent("translator")

    @translator.on("finish")
    async def finish(translation: str) -> str:
        """Hand in the translation."""
        results.put_nowait((word, translation))
        done()
        return "Recorded."

    await translator.send(f"Task: {word}\nTranslate the word, then call finish.")
    await wait()


@agent_process
async def planted(words: list[str]) -> dict[str, str | None]:
    results: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    for word in words:
        bubble(spawn(translate, word, results), source=word)
    return dict([await results.get() for _ in words])


@agent_process
async def mended(words: list[str]) -> dict[str, str | None]:
    results: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    handles = [spawn(translate, word, results) for word in words]
    found: dict[str, str | None] = dict.fromkeys(words)
    for handle in handles:
        try:
            await handle
        except ExecutionFailed:
            continue  # it has no translation
        found.update([results.get_nowait()])
    return found


FOUND = "hangs: "
"""What its story says."""

ARGS = (["tree", "branch", "leaf"],)
model = diligent("finish", lambda conversation: {"translation": task_of(conversation).upper()})
