"""``ramure demo``: the README's first program, on real pi in real tmux, with what the agent does shown live."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from ramure import agent, agent_process, current_runtime, done, wait
from ramure.agents.pi.toolchain import find_toolchain, model_config
from ramure.cli.common import as_json, json_option
from ramure.executor import in_thread
from ramure.runtime.process.handle import Agent
from ramure.testing import Conversation, Delay, ScriptedModel, Step, Text, ToolCall

__all__ = ["command", "haikus"]

HAIKUS = (
    "Rebase in the night\nold commits find a new branch\nno one hears them move",
    "Detached from its branch\nHEAD looks down at what it was\none hash, no way home",
    "Merge conflict at dawn\ntwo truths between angle signs\nkeep both, or keep none",
    "Stash, and then a pop\nwork you had forgotten of\nreturns to your hands",
    "Bisect cuts the year\ngood, bad, good, then bad again\nthere: a missing dot",
    "Blame, the quiet one\nasks each line who wrote it here\nmost often: you did",
    "Forced push in spring rain\nthe upstream river turns back\nfriends pull, and cry out",
    "Cherry-pick: one fruit\nout of all that blossomed there\nthe bug came with it",
    "The reflog forgives\nninety days of lost commits\nwait there in the dark",
    "First commit, still small\na README and a promise\nsnow without a step",
)


@agent_process
async def haikus(topic: str, count: int) -> list[str]:
    """The README's program, and beside it a task that prints what happens."""
    poet = await agent("poet", system_prompt="You are a poet of few words.")
    written: list[str] = []

    @poet.on("submit_haiku")
    async def on_haiku(text: str) -> str:
        """Hand in one haiku: three lines, separated by newlines."""
        written.append(text)
        if len(written) == count:
            done(written)
        return f"Taken. {count - len(written)} to go."

    run = current_runtime()
    _say(f"run {run.execution_id}; pi works in tmux session {poet.address!r}: `ramure connect {poet.address}` shows it")
    watching = asyncio.create_task(_show(poet))
    await poet.send(f"Write {count} haikus about {topic}. Hand in each with a call of submit_haiku.")
    result: list[str] = await wait()
    watching.cancel()
    return result


def scripted(conversation: Conversation) -> list[Step]:
    """What the scripted model says: the next haiku, until all are handed in."""
    handed_in = len(conversation.tool_results)
    if handed_in < len(HAIKUS):
        return [Delay(0.1), ToolCall("submit_haiku", {"text": HAIKUS[handed_in]})]
    return [Text("That was the last one.")]


@click.command("demo", epilog="Example: ramure demo --scripted")
@click.option("--scripted", "force_scripted", is_flag=True, help="The scripted model, even if you have configured one.")
@json_option
def command(force_scripted: bool, json_wanted: bool) -> None:
    """Have a real pi write ten haikus, and watch it.

    On the model that your pi is configured for, if there is one; else on a scripted one, which costs nothing.
    """
    written = asyncio.run(_demo(force_scripted))
    if json_wanted:
        as_json("demo", {"haikus": written})
        return
    for haiku in written:
        click.echo("\n" + haiku)


async def _demo(force_scripted: bool) -> list[str]:
    began = time.monotonic()
    tools = await in_thread(find_toolchain)
    _say(f"{tools.harness}; tmux {tools.tmux_version}")
    async with AsyncExitStack() as stack:
        own = await in_thread(model_config)
        if own.configured and not force_scripted:
            _say(f"model: your own, {own.default or 'as pi chooses among ' + ', '.join(own.providers)}")
        else:
            _say("model: the scripted one that comes with ramure" + ("" if force_scripted else " (you have none)"))
            await _use_scripted(stack)
        result = await haikus("git", len(HAIKUS))
    _say(f"{len(result)} haikus in {time.monotonic() - began:.1f} s")
    return result


async def _use_scripted(stack: AsyncExitStack) -> None:
    """pi finds its configuration in a directory of the demo's own."""
    model = await stack.enter_async_context(ScriptedModel(scripted))
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramure-demo-")))
    await in_thread(model.write_config, directory)
    before = {name: os.environ.get(name) for name in ("PI_CODING_AGENT_DIR", "PI_OFFLINE")}
    os.environ.update({"PI_CODING_AGENT_DIR": str(directory), "PI_OFFLINE": "1"})

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    stack.callback(restore)


async def _show(poet: Agent) -> None:
    async for event in poet.events:
        line = _line(event.type, event.data)
        if line:
            click.echo(f"  {poet.name:<6} {line}", err=True)


def _line(type: str, data: dict[str, Any]) -> str:
    match type:
        case "state":
            return f"is {data['state']}"
        case "assistant" if data.get("text"):
            return f"says: {data['text'].strip().splitlines()[0]}"
        case "tool_call":
            said = " / ".join(str(value).replace("\n", " / ") for value in data["arguments"].values())
            return f"calls {data['name']}: {said}"
        case "tool_result":
            return f"gets: {data['text']}"
        case "problem":
            return f"problem: {data.get('message')}"
        case _:
            return ""


def _say(text: str) -> None:
    click.echo(f"demo: {text}", err=True)
