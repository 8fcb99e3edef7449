"""Forty beginners' mistakes: none is silent, and each names what is wrong, where, and what to write instead."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any, cast

import pytest

from ramure import (
    Agent,
    AgentDied,
    AgentNameTaken,
    BadAgentName,
    BadTool,
    MachineDown,
    MachineStopped,
    MessageTooLarge,
    NoProcess,
    NoSuchArgument,
    NoSuchEndpoint,
    NotAwaited,
    ProcessEnded,
    ToolExists,
    UnsupportedParameter,
    UsageError,
    WaitsForItself,
    WrongArguments,
    agent,
    agent_process,
    bubble,
    connect,
    done,
    emit,
    expose,
    machine,
    spawn,
    start_task,
    supervise,
    wait,
)
from ramure.runtime.views.story import tell
from ramure.testing import InProcessHarness, run_virtual
from tests.runtime.mistakes.kit import Mistake, Mistakes, calls, told

pytestmark = pytest.mark.real

MISTAKES = Mistakes()
a_mistake = MISTAKES.add


async def worker_with_finish(name: str = "worker") -> Agent:
    worker = await agent(name)

    @worker.on("finish")
    async def on_finish(summary: str) -> str:
        """Call with your result."""
        done(summary)
        return "Recorded."

    return worker


@agent_process
async def serves() -> None:
    @expose
    async def add_task(spec: str, times: int = 1) -> str:
        return spec * times

    emit("ready")
    await wait()


@agent_process
async def sleeps() -> None:
    await asyncio.sleep(5)


@agent_process
async def raises() -> None:
    raise ConnectionError("no route")


# -- a missing await ------------------------------------------------------------------------------------------------


@a_mistake(NotAwaited, r"returned_wait#1 returned a coroutine and not its result: wait\(\)", r"write `await wait")
async def returned_wait() -> Any:
    await (await worker_with_finish()).send("Begin.")
    return wait()  # here


@a_mistake(NotAwaited, r"returned a coroutine .* sleeps\(\)", "write `await sleeps")
async def returned_a_process() -> Any:
    return sleeps()  # here


@a_mistake(NotAwaited, r"returned a coroutine .* Agent.ask\(\)", "lacks an `await`")
async def returned_a_question() -> Any:
    worker = await agent("worker")
    return worker.ask("How are you?")  # here


@a_mistake(NotAwaited, r"<worker.send\(\)", "was not awaited: write `await`")
async def returned_a_message() -> Any:
    worker = await agent("worker")
    return worker.send("x")  # here


@a_mistake(AttributeError, "'coroutine' object has no attribute 'on'", r"agent\(\), called at .* write `await agent")
async def made_an_agent_without_await() -> None:
    worker = cast("Agent", agent("worker"))  # here
    worker.on("finish")(print)


@a_mistake(UsageError, r"machine=<coroutine object machine .* is no machine", "write `await machine")
async def gave_a_machine_without_await() -> None:
    host: Any = machine()  # here
    await agent("worker", machine=host)


@a_mistake(UsageError, "connect.<coroutine", "write `await agent")
async def connected_without_await() -> None:
    one = await agent("one")
    two: Any = agent("two")  # here
    connect(one, two)


@a_mistake("python", "coroutine 'Agent.ask' was never awaited", "never awaited")
async def asked_without_await() -> None:
    worker = await agent("worker")
    worker.ask("How are you?")  # type: ignore[unused-coroutine] # here


@a_mistake("python", "coroutine 'sleeps' was never awaited", "never awaited")
async def called_a_process_without_await() -> None:
    sleeps()  # type: ignore[unused-coroutine] # here


@a_mistake("python", "coroutine 'ProcessHandle.call' was never awaited", "never awaited")
async def called_an_endpoint_without_await() -> None:
    handle = spawn(serves)
    await handle.events.listen_for("ready")
    handle.call("add_task", spec="x")  # type: ignore[unused-coroutine] # here


# -- nobody waits ---------------------------------------------------------------------------------------------------


@a_mistake("warning", "returned while what its agents were sent was under way: 'worker'", r"`await wait\(\)` before")
async def returned_without_wait() -> None:
    worker = await agent("worker")  # here
    await worker.send("Write a book.")


@a_mistake("warning", "under way: 'one' .*, 'two'", r"`await wait\(\)` before the return, and call done")
async def sent_as_the_last_statement() -> None:
    one, two = await asyncio.gather(agent("one"), agent("two"))  # here
    one.send("Write a book.")
    two.send("Write another one.")


@a_mistake("warning", r"returned while children ran that nobody has awaited: sleeps#2", "`await` their handles")
async def spawned_and_returned() -> None:
    spawn(sleeps)  # here


@a_mistake(
    "warning", r"its child raises#2, .* failed while nobody awaited it: ConnectionError: no route", "read its events"
)
async def looked_away_while_a_child_failed() -> None:
    handle = spawn(raises)  # here
    await asyncio.sleep(1)
    with pytest.raises(ConnectionError):
        await handle


@a_mistake(
    "warning", r"agent 'worker' .* has tools \(finish\), but nobody has sent it anything", r"`worker.send\(...\)`"
)
async def forgot_to_send() -> None:
    worker = await agent("worker")  # here

    @worker.on("finish")
    def finish(summary: str) -> None:
        """Call with your result."""

    asyncio.get_running_loop().call_later(60, done)
    await wait()


@a_mistake("warning", "left tasks of its own pending: mine", r"start_task\(\)")
async def left_a_task() -> None:  # here
    left = asyncio.create_task(asyncio.sleep(0.2), name="mine")
    assert not left.done()


# -- tools ----------------------------------------------------------------------------------------------------------


@a_mistake("warning", "the tool 'finish' .* has no docstring", "Write `async def finish")
async def a_tool_without_docstring() -> None:
    worker = await agent("worker")

    @worker.on("finish")  # here
    async def finish(summary: str) -> None:
        done(summary)

    await worker.ask("Begin.")


@a_mistake("warning", "the tool 'add' .* has no annotation of its parameters a, b", r"`async def add\(a: str, b: str\)")
async def a_tool_without_annotations() -> None:
    worker = await agent("worker")

    @worker.on("add")  # here
    async def add(a, b):  # type: ignore[no-untyped-def]
        """Add."""

    await worker.ask("Begin.")


@a_mistake("warning", "the handler of its tool 'divide' failed: ZeroDivisionError", "", calls("divide"))
async def a_handler_that_raises() -> None:
    worker = await agent("worker")

    @worker.on("divide")
    def divide() -> float:
        """Divide."""
        return 1 / 0  # here

    await worker.ask("Divide.")


@a_mistake(
    "warning",
    "WouldDeadlock: 'worker' is asked by a handler",
    r"use `send`, or .* start_task\(worker.ask",
    calls("ask"),
)
async def a_handler_that_asks_its_own_agent() -> None:
    worker = await agent("worker")

    @worker.on("ask")
    async def ask() -> str:
        """Ask."""
        return await worker.ask("What?")  # here

    await worker.ask("Begin.")


@a_mistake(ToolExists, "agent 'worker' has a tool 'finish' already", "choose another name")
async def the_same_tool_twice() -> None:
    worker = await worker_with_finish()
    worker.on("finish")(lambda: None)  # here


@a_mistake(UnsupportedParameter, "cannot have the parameter 'when'", "use str, int, float, bool")
async def a_parameter_that_no_model_can_give() -> None:
    worker = await agent("worker")

    @worker.on("plan")  # here
    def plan(when: complex) -> None:
        """Plan."""


@a_mistake(BadTool, "'my tool' cannot be a tool", r'write @agent.on\("name"\)')
async def a_tool_with_a_space_in_its_name() -> None:
    worker = await agent("worker")
    worker.on("my tool")(lambda: None)  # here


@a_mistake(UsageError, "agent.on", r"write @agent.on\(\)")
async def on_without_parentheses() -> None:
    worker = await agent("worker")

    def finish() -> None:
        """Call with your result."""

    worker.on(cast("Any", finish))  # here


@a_mistake(NoSuchArgument, "'order'", "amount")
async def once_by_an_argument_that_is_none() -> None:
    worker = await agent("worker")

    @worker.on("pay", once="order")  # here
    def pay(amount: int) -> None:
        """Pay."""


@a_mistake(
    "warning",
    "pi does not know the model 'scripted/scriptd-1' of the provider 'scripted'",
    "the nearest that it knows: 'scripted/scripted-1'.*model=",
)
async def misspelt_a_model() -> None:
    worker = await agent("worker", model="scripted/scriptd-1")  # here
    await worker.ask("What is it?")


# -- agents and machines ----------------------------------------------------------------------------------------------


@agent_process
async def makes(kept: list[Any]) -> None:
    kept.extend((await agent("helper"), await machine()))


@a_mistake(
    AgentDied, "agent 'helper' is gone: it ended with the process makes#2, which made it", "that lives as long as you"
)
async def used_an_agent_after_its_process() -> None:
    kept: list[Any] = []
    await makes(kept)
    await kept[0].ask("Still there?")  # here


@a_mistake(AgentDied, "agent 'helper' is gone: it ended with the process makes#2", "which nobody awaited")
async def sent_to_an_agent_after_its_process() -> None:
    kept: list[Any] = []
    await makes(kept)
    kept[0].send("Still there?")  # here


@a_mistake(MachineDown, "machine 2> is down: it has ended", "it has ended")
async def used_a_machine_after_its_process() -> None:
    kept: list[Any] = []
    await makes(kept)
    await agent("worker", machine=kept[1])  # here


@a_mistake(MachineStopped, "has been stopped", "spawn another one")
async def used_a_machine_after_its_stop() -> None:
    host = await machine()
    await host.stop()
    await host.exec("true")  # here


@a_mistake(AgentNameTaken, "has a live agent 'worker' already", "choose another name")
async def two_agents_of_one_name() -> None:
    await agent("worker")
    await agent("worker")  # here


@a_mistake(BadAgentName, "'my worker'", "letters")
async def a_name_with_a_space() -> None:
    await agent("my worker")  # here


@a_mistake(UsageError, "agent 'one' cannot be connected to itself", "itself")
async def connected_to_itself() -> None:
    one = await agent("one")
    connect(one, one)  # here


@a_mistake(UsageError, "agent.send.*give a text, not 5", "give a text")
async def sent_a_number() -> None:
    worker = await agent("worker")
    worker.send(cast("Any", 5))  # here


@a_mistake(MessageTooLarge, "a message of 17000000 characters is too large", "write it to a file")
async def sent_a_book() -> None:
    worker = await agent("worker")
    worker.send("x" * 17_000_000)  # here
    await wait()


# -- processes and endpoints ------------------------------------------------------------------------------------------


@a_mistake(WrongArguments, "there is no argument 'spce'", r"did you mean 'spec'\?\); it takes add_task\(spec: ")
async def misspelt_an_argument() -> None:
    await spawn(serves).call("add_task", spce="x")  # here


@a_mistake(WrongArguments, "missing a required argument: 'spec'", r"it takes add_task\(spec: ")
async def left_out_an_argument() -> None:
    await spawn(serves).call("add_task")  # here


@a_mistake(NoSuchEndpoint, "has no endpoint 'addtask'", "it has: add_task")
async def misspelt_an_endpoint() -> None:
    await spawn(serves).call("addtask", spec="x")  # here


@a_mistake(WrongArguments, "spec: must be a text, not an object", r"it takes add_task\(spec: ")
async def gave_an_endpoint_a_wrong_type() -> None:
    await spawn(serves).call("add_task", spec={"a": 1}, times={})  # here


@a_mistake(ProcessEnded, "the process sleeps#2 has ended", "calling")
async def called_a_process_that_has_ended() -> None:
    handle = spawn(sleeps)
    await handle
    await handle.call("anything")  # here


@a_mistake(UsageError, "spawn.<coroutine", "give a function that is decorated with @agent_process")
async def spawned_a_call() -> None:
    running: Any = sleeps()
    try:
        spawn(running)  # here
    finally:
        running.close()


@a_mistake(UsageError, "start_task.<agent process", "call the async function, without `await`")
async def started_a_function() -> None:
    start_task(cast("Any", sleeps))  # here


@a_mistake(UsageError, "bubble.<agent process", "give a handle, as spawn")
async def bubbled_a_function() -> None:
    bubble(cast("Any", sleeps))  # here


@a_mistake(UsageError, "emit.'done'", "give a non-empty text other than")
async def emitted_an_ending() -> None:
    emit("done")  # here


@a_mistake(UsageError, "supervise", "child")
async def supervised_a_function() -> None:
    await supervise(cast("Any", sleeps))  # here


@a_mistake(WaitsForItself, "awaits .*, which waits for it to end", "this would never end")
async def awaited_its_own_parent() -> None:
    handles: list[Any] = []

    async def inner() -> None:
        await handles[0]  # here

    async def outer() -> None:
        await asyncio.sleep(0)
        await agent_process(inner)()

    handles.append(spawn(agent_process(outer)))
    await handles[0]


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_it_is_told_with_what_where_and_remedy(mistake: Mistake, caplog: pytest.LogCaptureFixture) -> None:
    said = told(mistake, caplog.records)
    fitting = [text for text in said if re.search(mistake.what, text, re.DOTALL)]
    assert len(fitting) == 1, said
    [text] = fitting
    assert re.search(mistake.remedy, text, re.DOTALL), text
    if mistake.main.__name__ not in WITHOUT_LINE:
        trace = "".join(str(record.exc_text or "") for record in caplog.records).replace('", line ', ":")
        assert mistake.where in text + trace, (mistake.where, text)


WITHOUT_LINE = {"left_a_task"}
"""A task's own name stands for the line."""


def test_there_are_forty_of_them() -> None:
    assert len(MISTAKES) >= 40


@agent_process
async def nobody() -> None: ...


def test_outside_of_a_process_a_verb_names_the_decorator() -> None:
    for verb, arguments in ((done, ()), (emit, ("x",)), (spawn, (nobody,)), (expose, (print,))):
        with pytest.raises(NoProcess, match="call it in a function decorated with @agent_process"):
            cast("Any", verb)(*arguments)


def test_a_pi_that_is_restarted_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", max_restarts=5, within=60)
        for _ in range(2):
            harness.kill("worker")
            before = worker.restarts
            while worker.restarts == before:
                await asyncio.sleep(0.1)

    run_virtual(main())
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2
    assert said[0].startswith("agent 'worker': its pi ended (")
    assert "it is restarted after" in said[0]
    assert "(restart 1, at most 5 in 60 s)" in said[0]
    assert "(restart 2, at most 5 in 60 s)" in said[1]


def test_the_traceback_of_a_handler_that_raises_is_in_the_runs_log_and_in_why(home: Path) -> None:
    harness = InProcessHarness(calls("divide"))

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("divide")
        def divide() -> float:
            """Divide."""
            return 1 / 0

        await worker.ask("Divide.")

    run_virtual(main())
    [path] = home.glob("logs/*/_runtime.jsonl")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    [entry] = [entry for entry in entries if entry["type"] == "tool_error"]
    assert "return 1 / 0" in entry["traceback"]
    [chapter] = tell("worker", entries).chapters
    assert chapter.text == "the tool divide failed: ZeroDivisionError: division by zero"
    assert "return 1 / 0" in str(chapter.traceback)
