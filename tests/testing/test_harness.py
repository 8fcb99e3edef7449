"""Simulated agents on the real actors and the real gateway, in virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import json
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ramure.actors import ActorSystem, Ref
from ramure.agents.agent import AgentActor
from ramure.agents.errors import Interrupted, ModelError, PiExited
from ramure.agents.message_marks import MessageMarks
from ramure.agents.requests import AddTool, AgentOptions, AskModel, Interrupt, Pause, Ready, Say, Unpause
from ramure.agents.tools.schema import Tool
from ramure.agents.wire import Ack, Frame
from ramure.exits import Crashed
from ramure.machines.actor import MachineActor
from ramure.machines.errors import MachineDown
from ramure.runtime.run.gateway import Gateway
from ramure.testing import (
    Conversation,
    Delay,
    DropConnection,
    Hang,
    HTTPError,
    ScriptError,
    Text,
    ToolCall,
    virtual_time,
)
from ramure.testing.harness import InProcessHarness
from ramure.testing.sim_link import Link
from ramure.types import ExecResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ramure.testing.scripts import Script


class Run:
    """As much of a run as agents need: gateway, logs, one machine."""

    def __init__(self, harness: InProcessHarness, system: ActorSystem, gateway: Gateway) -> None:
        self.run_id = "test"
        self.scratch = Path("/scratch")
        self.harness = harness
        self.system = system
        self.gateway = gateway
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, asyncio.Queue[tuple[str, Any]]] = {}
        self.expect = gateway.expect
        self.marks: dict[str, MessageMarks] = {}

    def forget(self, token: str) -> None:
        self.gateway.forget(token)

    async def url_for(self, machine: Any) -> str:
        return self.gateway.url

    async def tmux_for(self, machine: Any) -> Any:
        return machine.tmux

    def toolchain(self) -> Any:
        return SimpleNamespace(pi_argv=("pi",))

    def session_file(self, address: str) -> Path:
        return Path("/sessions") / f"{address}.jsonl"

    def append(self, address: str, line: bytes, reply_to: Ref[Any] | None, token: object) -> None:
        self.logs.setdefault(address, []).append(json.loads(line))
        if reply_to is not None:
            reply_to.tell(token)

    def death_is_told(self, agent: Ref[Any], reason: object) -> None: ...

    def disk(self, address: str, report: dict[str, Any], machine: Any) -> None:
        """No test here fills a disk."""

    def log(self, type: str, data: dict[str, Any]) -> None:
        self.logs.setdefault("_runtime", []).append({"type": type, "data": data})

    async def machine(self) -> Ref[Any]:
        return await self.system.start(MachineActor, self.harness.image)

    async def agent(self, name: str, *tools: Callable[..., Any], machine: Ref[Any] | None = None) -> Ref[Any]:
        queue = self.events[name] = asyncio.Queue()
        options = AgentOptions(
            name,
            name,
            machine or await self.machine(),
            self,
            system_prompt=f"You are {name}.",
            on_event=lambda kind, data, size: queue.put_nowait((kind, data)),
            marks=self.marks.setdefault(name, MessageMarks()),
            restart="temporary",  # what a pi's end means is seen best where no other follows
        )
        agent = await self.system.start(AgentActor, options)
        for tool in tools:
            context = contextvars.copy_context()
            await agent.ask(AddTool(Tool.of(tool), context))
        await agent.ask(Ready(), timeout=None)
        return agent

    async def event(self, name: str, type: str) -> Any:
        """The data of the agent's next event of this type."""
        async with asyncio.timeout(600):
            while True:
                found, data = await self.events[name].get()
                if found == type:
                    return data


@asynccontextmanager
async def running(script: Script, **options: Any) -> AsyncIterator[Run]:
    harness = InProcessHarness(script, **options)
    async with Gateway() as gateway, ActorSystem(name="test") as system:
        yield Run(harness, system, gateway)
    harness.check()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_name() for task in left] == []


@virtual_time()
async def test_an_agent_answers_a_question() -> None:
    async with running(lambda c: f"You said: {c.last_user_text}") as run:
        agent = await run.agent("worker")
        assert (await agent.ask(AskModel("hello"), timeout=60)).endswith("hello")
        [request] = run.harness.requests
    assert request.conversation.system_prompt == "You are worker."


@virtual_time()
async def test_a_connection_that_is_cut_before_the_agent_was_ready_holds_its_start_up_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send, lost = Link.send, []

    def losing(link: Link, frame: Frame) -> None:
        if isinstance(frame, Ack) and not lost:
            lost.append(frame)
            link.drop()
        else:
            send(link, frame)

    monkeypatch.setattr(Link, "send", losing)
    async with running(["Hello."]) as run:
        async with asyncio.timeout(60):
            agent = await run.agent("worker")
        assert await agent.ask(AskModel("hello"), timeout=60) == "Hello."
    assert lost


@virtual_time()
async def test_tools_are_called_in_parallel_and_their_results_reach_the_model() -> None:
    async def slow(n: int) -> str:
        await asyncio.sleep(1000)
        return f"slow {n}"

    async def fast() -> str:
        raise ValueError("no luck")

    script: list[Any] = [[ToolCall("slow", {"n": 1}), ToolCall("fast"), ToolCall("unknown")], "Done."]
    async with running(script) as run:
        agent = await run.agent("worker", slow, fast)
        assert await agent.ask(AskModel("go"), timeout=None) == "Done."
        results = run.harness.requests[1].conversation.new_tool_results
    texts = {result.name: result.text for result in results}
    assert texts["slow"] == "slow 1"
    assert "no luck" in texts["fast"]
    assert texts["unknown"] == "Tool unknown not found"
    assert asyncio.get_running_loop().time() < 1100


@virtual_time()
async def test_a_message_steers_a_busy_agent_and_a_queued_one_waits() -> None:
    def script(conversation: Conversation) -> list[Any]:
        return [Delay(100), Text(str(len(conversation.user_texts)))]

    async with running(script) as run:
        agent = await run.agent("worker")
        await agent.ask(Say("one"))
        assert await run.event("worker", "user")
        await agent.ask(Say("two"))
        await agent.ask(Say("three", how="queue"))
        first, second = await run.event("worker", "run_end"), await run.event("worker", "run_end")
    assert (len(first["seqs"]), first["text"]) == (2, "2")
    assert (len(second["seqs"]), second["text"]) == (1, "3")


@virtual_time()
async def test_an_interrupt_ends_a_hanging_model_and_a_pending_tool() -> None:
    cancelled = asyncio.Event()

    async def forever() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    async with running([["Half", Hang()], [ToolCall("forever")], "again"]) as run:
        agent = await run.agent("worker", forever)
        await agent.ask(Say("one"))
        await run.event("worker", "user")
        await asyncio.sleep(10)
        await agent.ask(Interrupt())
        assert await run.event("worker", "run_end") | {"seqs": 0} == {
            "seqs": 0,
            "text": "Half",
            "stop_reason": "aborted",
            "error": None,
        }
        await agent.ask(Say("two"))
        await run.event("worker", "tool_call")
        await agent.ask(Interrupt())
        await run.event("worker", "run_end")
        await cancelled.wait()
        assert await agent.ask(AskModel("three"), timeout=60) == "again"
        assert run.harness.requests[2].conversation.tool_results[0].text == "The call was cancelled."


async def interrupt(agent: Ref[Any]) -> None:
    await agent.ask(Interrupt())


async def pause_and_resume(agent: Ref[Any]) -> None:
    await agent.ask(Pause())
    await asyncio.sleep(5)
    await agent.ask(Unpause())


async def pause_shortly(agent: Ref[Any]) -> None:
    await agent.ask(Pause())
    await agent.ask(Unpause())


async def pause_twice(agent: Ref[Any]) -> None:
    await pause_shortly(agent)
    await pause_and_resume(agent)


@virtual_time()
async def test_an_interrupted_question_is_no_empty_answer() -> None:
    async with running([["Half", Hang()], "to the second"]) as run:
        agent = await run.agent("worker")
        first = asyncio.ensure_future(agent.ask(AskModel("one"), timeout=None))
        second = asyncio.ensure_future(agent.ask(AskModel("two"), timeout=None))
        await run.event("worker", "user")
        await interrupt(agent)
        with pytest.raises(Interrupted, match="'worker' was interrupted before it had answered"):
            await first
        assert await second == "to the second"


@virtual_time()
async def test_a_question_that_nobody_waits_for_any_more_is_not_put() -> None:
    async with running([[Delay(10), "one"], "three"]) as run:
        agent = await run.agent("worker")
        first = asyncio.ensure_future(agent.ask(AskModel("one"), timeout=None))
        await run.event("worker", "user")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(agent.ask(AskModel("two"), timeout=None), 1)
        assert await agent.ask(AskModel("three"), timeout=None) == "three"
        assert await first == "one"
        assert run.harness.requests[-1].conversation.user_texts[-1].endswith("three")
        assert not any("two" in text for text in run.harness.requests[-1].conversation.user_texts)


@virtual_time()
async def test_a_handler_goes_on_in_a_pause_and_its_result_is_the_calls() -> None:
    async def slow() -> str:
        await asyncio.sleep(60)
        return "the true result"

    async with running([[ToolCall("slow")], "done"]) as run:
        agent = await run.agent("worker", slow)
        asked = asyncio.ensure_future(agent.ask(AskModel("go"), timeout=None))
        await run.event("worker", "tool_call")
        await agent.ask(Pause())
        await asyncio.sleep(300)
        assert len(run.harness.requests) == 1
        await agent.ask(Unpause())
        assert await asked == "done"
        assert [result.text for result in run.harness.requests[1].conversation.tool_results] == ["the true result"]


@pytest.mark.parametrize("pausing", [pause_and_resume, pause_shortly, pause_twice])
@virtual_time()
async def test_a_question_outlives_a_pause(pausing: Callable[[Ref[Any]], Any]) -> None:
    async with running([["Half", Hang()], "whole", ["Half", Hang()], "the next"]) as run:
        agent = await run.agent("worker")
        asked = asyncio.ensure_future(agent.ask(AskModel("one"), timeout=None))
        await run.event("worker", "user")
        await asyncio.sleep(1)
        await pausing(agent)
        assert await asked == "whole"
        asked = asyncio.ensure_future(agent.ask(AskModel("two"), timeout=None))
        while len(run.harness.requests) < 3:
            await asyncio.sleep(1)
        await interrupt(agent)  # the pause before has not made it deaf to this
        with pytest.raises(Interrupted):
            await asked


@virtual_time()
async def test_an_interrupt_after_a_pause_ends_the_question() -> None:
    async with running([["Half", Hang()], ["Half", Hang()], "the next"]) as run:
        agent = await run.agent("worker")
        asked = asyncio.ensure_future(agent.ask(AskModel("one"), timeout=None))
        await run.event("worker", "user")
        await pause_and_resume(agent)
        while len(run.harness.requests) < 2:
            await asyncio.sleep(1)
        await interrupt(agent)
        with pytest.raises(Interrupted):
            await asked
        assert await agent.ask(AskModel("two"), timeout=None) == "the next"


@virtual_time()
async def test_a_model_error_is_tried_again_and_then_told() -> None:
    async with running([HTTPError(429, retry_after=30), [DropConnection()], "ok", HTTPError(400, "bad")]) as run:
        agent = await run.agent("worker")
        assert await agent.ask(AskModel("one"), timeout=None) == "ok"
        with pytest.raises(ModelError, match="400 bad"):
            await agent.ask(AskModel("two"), timeout=None)
        assert [request.outcome for request in run.harness.requests] == ["refused", "cut", "served", "refused"]
    assert 30 < asyncio.get_running_loop().time() < 60


@virtual_time()
async def test_killing_it_ends_the_agent_with_the_reason() -> None:
    async with running([Hang()]) as run:
        agent = await run.agent("worker")
        await agent.ask(Say("one"))
        await run.event("worker", "user")
        run.harness.kill("worker")
        reason = await agent.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, PiExited)
    assert "signal 9" in str(reason.exception)


@virtual_time()
async def test_a_lost_connection_is_made_again_and_nothing_is_lost_or_done_twice() -> None:
    calls: list[int] = []

    async def count(n: int) -> str:
        calls.append(n)
        await asyncio.sleep(50)
        return str(n)

    script: list[Any] = [*(ToolCall("count", {"n": n}) for n in range(5)), "Done."]
    async with running(script) as run:
        agent = await run.agent("worker", count)
        await agent.ask(Say("go"))
        for _ in range(5):
            await run.event("worker", "tool_call")
            run.harness.pi("worker").link.drop()
        assert (await run.event("worker", "run_end"))["text"] == "Done."
        assert calls == list(range(5))
        seqs = [entry["seq"] for entry in run.logs["worker"]]
        assert seqs == list(range(1, len(seqs) + 1))


@virtual_time()
async def test_a_restarted_pi_remembers_and_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "the true outcome"

    async with running([[ToolCall("slow")], "Done."]) as run:
        machine = await run.machine()
        first = await run.agent("worker", slow, machine=machine)
        await first.ask(Say("go"))
        await run.event("worker", "tool_call")
        run.harness.kill("worker")
        await first.wait()
        gate.set()
        await run.agent("worker", slow, machine=machine)
        assert (await run.event("worker", "run_end"))["text"] == "Done."
        first_request, second_request = (request.conversation for request in run.harness.requests)
    assert first_request.id == second_request.id
    assert second_request.user_texts == first_request.user_texts
    assert len(second_request.new_tool_results) == 1


@virtual_time()
async def test_a_machine_that_goes_down_takes_its_agents_along() -> None:
    async with running([]) as run:
        agent = await run.agent("worker")
        run.harness.machines[0].fail("power cut")
        reason = await agent.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, MachineDown | PiExited)


@virtual_time()
async def test_a_script_without_an_answer_is_a_model_error_and_is_raised() -> None:
    async def main() -> None:
        async with running([]) as run:
            agent = await run.agent("worker")
            with pytest.raises(ModelError, match="used up"):
                await agent.ask(AskModel("one"), timeout=None)

    with pytest.raises(ScriptError, match="used up"):
        await main()


async def test_commands_are_answered_by_the_test() -> None:
    harness = InProcessHarness([], exec=lambda command: ExecResult(command.upper(), "", 3))
    machine = await harness.image.spawn()
    assert await machine.exec("echo hi") == ExecResult("ECHO HI", "", 3)
    await machine.write_private("/a", b"x")
    assert (await machine.exec("test -s /a")).ok
    assert await machine.read_file("/a") == b"x"
    await machine.exec("rm -f -- /a")
    assert not (await machine.exec("test -s /a")).ok
    await machine.stop()


@virtual_time()
async def test_a_hundred_start_at_once() -> None:
    async with running({"*": ["Ready."]}) as run:
        machine = await run.machine()
        agents = await asyncio.gather(*(run.agent(f"w{n}", machine=machine) for n in range(100)))
        answers = await asyncio.gather(*(agent.ask(AskModel("hi"), timeout=None) for agent in agents))
    assert answers == ["Ready."] * 100
