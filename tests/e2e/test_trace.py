"""Each call of the facade is a message to an actor: a trace of the demo's run shows them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ramure import Agent, agent, agent_process, connect, current_runtime, expose, fail, machine, spawn, wait
from ramure.actors.observe.tracing import TraceEvent
from ramure.cli.commands.demo import haikus, scripted
from ramure.testing import ScriptedModel, Text
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(60)]


@agent_process
async def traced_demo() -> list[TraceEvent]:
    """The demo's program as a child, under a trace of everything in the run."""
    with current_runtime().system.trace(kinds=("sent", "started"), limit=100_000) as trace:
        assert len(await haikus("git", 10)) == 10
        return trace.events()


@pytest.fixture
def own_pi(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage's environment is this process's own."""
    for name, value in stage.environ.items():
        monkeypatch.setenv(name, value)
    return stage


def serve(stage: Stage, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pi of this process use ``model``."""
    for name, value in model.write_config(stage.run.directory / "agent").items():
        monkeypatch.setenv(name, value)


def messages(events: list[TraceEvent]) -> list[tuple[str, str]]:
    """(kind of message, label of the actor that got it), of what was sent; an ask counts as its request."""
    found = []
    for event in events:
        if event.kind == "sent":
            message = getattr(event.value, "request", event.value)
            found.append((type(message).__name__, event.actor.label))
    return found


async def test_the_demos_facade_calls_are_messages_to_actors(own_pi: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedModel(scripted) as model:
        serve(own_pi, model, monkeypatch)
        sent = messages(await traced_demo())
    # The call; its message; the actor that it goes to.
    table = [
        ("agent('poet')", "StartAgent", "haikus"),
        ("agent.on('submit_haiku')", "AddTool", "poet"),
        ("agent.send(text)", "Say", "poet"),
        ("wait()", "Wait", "haikus"),
        ("done(written)", "Done", "haikus"),
    ]
    for call, message, actor in table:
        receivers = [label for name, label in sent if name == message]
        assert len(receivers) == 1, (call, receivers)
        assert actor in receivers[0], (call, receivers)
    order = [name for name, _ in sent if name in {message for _, message, _ in table}]
    assert order == ["StartAgent", "AddTool", "Say", "Wait", "Done"]
    # A tool call comes to the agent's actor as a frame from the gateway, and its result as the handler's end.
    assert sum(name == "FrameIn" for name, _ in sent) > 10
    assert ("BodyEnded", next(label for name, label in sent if name == "Done")) in sent


@agent_process
async def child() -> str:
    @expose
    async def double(number: int) -> int:
        return 2 * number

    await wait()
    return "unreached"


@agent_process
async def every_other_call() -> list[TraceEvent]:
    """The calls that the demo does not make."""
    with current_runtime().system.trace(kinds=("sent",), limit=100_000) as trace:
        handle = spawn(child)
        assert await handle.call("double", number=21) == 42
        host = await machine()
        assert (await host.exec("echo here")).stdout == "here\n"
        one: Agent = await agent("one", machine=host)
        two: Agent = await agent("two", machine=host)
        await connect(one, two)
        assert (await one.exec("pwd")).stdout == (await two.exec("pwd")).stdout
        await host.stop()
        await handle.cancel()
        fail("as planned")
        with pytest.raises(Exception, match="as planned"):
            await wait()
        return trace.events()


async def test_so_are_all_the_others(own_pi: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedModel([Text("Hello.")]) as model:
        serve(own_pi, model, monkeypatch)
        sent = messages(await every_other_call())
    names = {name for name, _ in sent}
    expected = {"CallEndpoint", "StartMachine", "Exec", "AddPeer", "Cancel", "Fail", "Wait", "Expose"}
    assert expected <= names, expected - names


async def test_the_logs_are_contiguous_and_private(own_pi: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedModel(scripted) as model:
        serve(own_pi, model, monkeypatch)
        await traced_demo()
    [directory] = await asyncio.to_thread(lambda: list((own_pi.run.home / "logs").iterdir()))
    assert (directory.stat().st_mode & 0o777, (directory / "sessions").stat().st_mode & 0o777) == (0o700, 0o700)
    logs = sorted(directory.glob("*.jsonl"))
    assert [log.name for log in logs] == ["_runtime.jsonl", "poet.jsonl"]
    assert all(log.stat().st_mode & 0o777 == 0o600 for log in logs)
    entries = [json.loads(line) for line in (directory / "poet.jsonl").read_text().splitlines()]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert all(set(entry) == {"seq", "ts", "type", "data", "origin"} for entry in entries)
    states = [entry["data"]["state"] for entry in entries if entry["type"] == "state"]
    assert states[:3] == ["launching", "connecting", "idle"]
    assert states[-1] == "ended"
    assert Path(directory, "sessions", "poet.jsonl").exists()
