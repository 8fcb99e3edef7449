"""An unbounded retry: a model that has refused once refuses again, and is asked for ever."""

from __future__ import annotations

from ramure import agent, agent_process, fail, wait
from ramure.testing import Conversation, Step, Text


def is_haiku(text: str) -> bool:
    """Whether it has three lines."""
    return len(text.splitlines()) == 3


@agent_process
async def planted() -> str:
    poet = await agent("poet")
    haiku = await poet.ask("Write a haiku about git.")
    while not is_haiku(haiku):
        haiku = await poet.ask("That is no haiku. Write one.")
    return haiku


@agent_process
async def mended() -> str:
    poet = await agent("poet")
    haiku = await poet.ask("Write a haiku about git.")
    for _ in range(3):
        if is_haiku(haiku):
            return haiku
        haiku = await poet.ask("That is no haiku. Write one.")
    fail(f"no haiku: {haiku!r}")
    return await wait(str)


FOUND = "models have been asked more than 40 times"
"""What its story says."""

ARGS = ()
OPTIONS = {"max_requests": 40}


def model(conversation: Conversation) -> Step:
    """Stands by what it has said."""
    if conversation.assistant_texts and not is_haiku(conversation.assistant_texts[-1]):
        return Text("As I said.")
    return Text("Rebase in the night\nold commits find a new branch\nno one hears them move")
