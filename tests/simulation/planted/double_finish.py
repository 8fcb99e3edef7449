"""A double finish: the last of three votes decides, and a voter who votes again is counted again."""

from __future__ import annotations

from typing import Any

from ramure import agent, agent_process, done, wait
from ramure.testing import Conversation, Step, Text, ToolCall

VOTERS = ("ann", "bob", "cem")


@agent_process
async def planted() -> list[str]:
    votes: list[str] = []

    async def voter(name: str) -> None:
        member = await agent(name)

        @member.on("vote")
        async def vote(choice: str) -> str:
            """Vote, once."""
            votes.append(name)
            if len(votes) == len(VOTERS):
                done(list(votes))
            return "Recorded."

        await member.send("Vote for a release, then wait.")

    for name in VOTERS:
        await voter(name)
    return await wait(list[str])


@agent_process
async def mended() -> list[str]:
    votes: dict[str, str] = {}

    async def voter(name: str) -> None:
        member = await agent(name)

        @member.on("vote")
        async def vote(choice: str) -> str:
            """Vote, once."""
            votes[name] = choice
            if len(votes) == len(VOTERS):
                done(list(votes))
            return "Recorded."

        await member.send("Vote for a release, then wait.")

    for name in VOTERS:
        await voter(name)
    return await wait(list[str])


FOUND = "votes of"
"""What its story says."""

ARGS = ()


def model(conversation: Conversation) -> Step:
    """Votes; and once more, when it is spoken to again (by a reminder, after a restart)."""
    if conversation.new_tool_results and "Recorded." in conversation.new_tool_results[-1].text:
        return Text("I have voted.")
    return ToolCall("vote", {"choice": "yes"})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert sorted(run.result) == sorted(VOTERS), f"votes of {run.result}"
