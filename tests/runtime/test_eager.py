"""Eager verbs: calling `connect`, `handle.cancel`, `agent.send`, `agent.interrupt` and `machine.stop` acts; awaiting waits.

A failure that nobody awaits fails the process whose code called the verb, and names the line of the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import logging
import random
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from ramure import (
    Agent,
    AgentDied,
    MachineError,
    MessageTooLarge,
    NoProcess,
    ProcessCancelled,
    ProcessEnded,
    ToolExists,
    UsageError,
    agent,
    agent_process,
    connect,
    current_runtime,
    done,
    emit,
    expose,
    machine,
    spawn,
    start_task,
    wait,
)
from ramure.runtime.process.eager import Eager
from ramure.testing import InProcessHarness, ToolCall, virtual_time
from ramure.testing.harness import InProcessImage, InProcessMachine

HUGE = "x" * 17_000_000
"""A message that no frame can hold: sending it fails when the agent has looked at it."""


@agent_process
async def sits() -> None:
    await wait()


def sent(home: Path, name: str = "worker") -> list[str]:
    """The messages in the agent's log, and its interrupts."""
    [log] = home.glob(f"logs/*/{name}.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        "interrupt" if entry["type"] == "interrupt" else entry["data"]["text"]
        for entry in entries
        if entry["type"] in ("message", "interrupt")
    ]


async def fails(main: Callable[[], Coroutine[Any, Any, Any]], kind: type[BaseException]) -> str:
    """The traceback of a program that fails with ``kind``."""
    with pytest.raises(kind) as caught:
        await main()
    return "".join(traceback.format_exception(caught.value))


def line_of(function: Callable[..., Any], text: str) -> str:
    """``file:line`` of the first line with ``text`` in ``function``."""
    lines, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


# -- calling acts ----------------------------------------------------------------------------------------------------


@virtual_time()
async def test_each_eager_verb_acts_when_it_is_called(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> list[str]:
        one, two = await agent("one"), await agent("two")
        host, handle = await machine(), spawn(sits)
        connect(one, two)
        one.send("hello")
        one.interrupt()
        handle.cancel()
        host.stop()
        await asyncio.sleep(1)
        assert (handle.ended, host.ref.is_alive()) == (True, False)
        return sorted(one._actor().tools)  # type: ignore[union-attr]

    assert await main() == ["download_file", "message", "send_file"]
    assert sent(home, "one") == ["hello", "interrupt"]


@virtual_time()
async def test_a_process_that_was_just_spawned_can_be_cancelled_at_once() -> None:
    @agent_process
    async def main() -> list[str]:
        handle = spawn(sits)
        handle.cancel()
        return [event.type async for event in handle.events]

    assert await main() == ["cancelled"]


@virtual_time()
@pytest.mark.parametrize("seed", range(5))
async def test_unawaited_sends_arrive_in_program_order_also_mixed_with_awaited_ones(seed: int, home: Path) -> None:
    draw = random.Random(seed)
    harness = InProcessHarness(lambda conversation: "said")
    kept: list[Eager] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        for number in range(40):
            match draw.randrange(5):
                case 0:
                    await worker.send(str(number))
                case 1:
                    await asyncio.create_task(worker.send(str(number)))
                case 2:
                    kept.append(worker.send(str(number), how="queue"))
                case 3:
                    await asyncio.to_thread(worker.send, str(number))
                case _:
                    worker.send(str(number))
        await asyncio.sleep(1)

    await main()
    assert sent(home) == [str(number) for number in range(40)]


@virtual_time()
async def test_what_is_sent_after_connect_comes_after_the_tools_of_the_connection(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        one, two = await agent("one"), await agent("two")
        connect(one, two)
        one.send("Tell two.")
        two.send("Wait for one.")
        await asyncio.sleep(1)

    await main()
    for name in ("one", "two"):
        [log] = home.glob(f"logs/*/{name}.jsonl")
        kinds = [json.loads(line)["type"] for line in log.read_text().splitlines()]
        assert [kind for kind in kinds if kind in ("tool", "message")] == ["tool", "tool", "tool", "message"]


@virtual_time()
async def test_the_last_statement_of_a_process_acts_too(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        worker.send("the last words")

    await main()
    assert sent(home) == ["the last words"]


# -- what it returns is a coroutine --------------------------------------------------------------------------------


async def in_a_group(act: Eager) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(act)


async def in_time(act: Eager) -> None:
    async with asyncio.timeout(5):
        await act


async def as_tasks(act: Eager) -> None:
    [task], pending = await asyncio.wait([asyncio.create_task(act)])
    assert not pending
    await task


async def in_a_thread(act: Eager) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(act, loop).result(5))


async def on_another_loop(act: Eager) -> None:
    await asyncio.to_thread(asyncio.run, act)


async def as_completed(act: Eager) -> None:
    for each in asyncio.as_completed([act]):
        await each


async def awaited(act: Eager) -> None:
    await act


USES: list[Callable[[Eager], Coroutine[Any, Any, Any]]] = [
    awaited,
    asyncio.create_task,  # type: ignore[list-item]
    asyncio.ensure_future,  # type: ignore[list-item]
    asyncio.gather,  # type: ignore[list-item]
    asyncio.shield,  # type: ignore[list-item]
    lambda act: asyncio.wait_for(act, 5),
    in_a_group,
    in_time,
    as_tasks,
    as_completed,
    in_a_thread,
    on_another_loop,
]


@virtual_time()
@pytest.mark.parametrize("use", USES)
async def test_it_goes_wherever_a_coroutine_does(use: Callable[[Eager], Any], home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker, other, host, handle = await agent("worker"), await agent("other"), await machine(), spawn(sits)
        acts = [
            worker.send("a"),
            worker.interrupt(),
            connect(worker, other),
            handle.cancel(),
            host.stop(),
        ]
        for act in acts:
            assert asyncio.iscoroutine(act)
            assert inspect.isawaitable(act)
            assert await use(act) in (None, [None])
        assert handle.ended
        assert not host.ref.is_alive()
        with pytest.raises((MessageTooLarge, ExceptionGroup)):
            await use(worker.send(HUGE))
        await start_task(worker.send("b"))

    await main()
    assert sent(home) == ["a", "interrupt", "b"]


@virtual_time()
async def test_it_may_be_awaited_again_and_by_several_tasks() -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker, handle = await agent("worker"), spawn(sits)
        for act in (worker.send("once"), handle.cancel()):
            tasks = [asyncio.create_task(act) for _ in range(3)]
            await asyncio.gather(act, act, asyncio.shield(act), *tasks)
            await act
            await act
            await asyncio.create_task(act)
        failing = worker.send(HUGE)
        tasks = [asyncio.create_task(failing) for _ in range(3)]
        found = await asyncio.gather(*tasks, failing, return_exceptions=True)
        assert [type(each) for each in found] == [MessageTooLarge] * 4
        for _ in range(2):
            with pytest.raises(MessageTooLarge):
                await failing

    await main()


@agent_process
async def slow_to_end() -> None:
    try:
        await wait()
    finally:
        await asyncio.sleep(2)


@virtual_time()
async def test_who_of_several_is_cancelled_leaves_and_the_others_go_on_waiting() -> None:
    @agent_process
    async def main() -> None:
        loop = asyncio.get_running_loop()
        handle = spawn(slow_to_end)
        await asyncio.sleep(0.1)
        act = handle.cancel()
        first, last = asyncio.create_task(act), asyncio.create_task(act)
        await asyncio.sleep(0.1)
        began = loop.time()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert loop.time() - began < 0.1
        last.cancel()  # the last waits until the process has ended, as one always did
        await last
        assert handle.ended
        assert loop.time() - began > 1

    await main()


@virtual_time()
async def test_who_is_cancelled_before_its_first_step_was_still_acted_for(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        for text in ("a", HUGE):
            task = asyncio.create_task(worker.send(text))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        act = worker.send("b")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await act
        await act
        act.close()
        await act

    await main()
    assert sent(home) == ["a", "b"]


@virtual_time()
async def test_a_coroutine_function_may_drive_it_by_hand() -> None:
    """`send` and `throw` are what other libraries wrap a coroutine by."""

    class Wrapped:
        def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
            self.inner = inner

        def __await__(self) -> Any:
            value = None
            while True:
                try:
                    trap = self.inner.send(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    value = yield trap
                except BaseException as error:
                    self.inner.throw(error)

    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        await Wrapped(worker.send("a"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Wrapped(spawn(sits).events.listen_for("never")), 1)
        act = worker.send("b")
        for raised in (KeyError, KeyError("k")):
            with pytest.raises(KeyError):
                act.throw(raised)
        with pytest.raises(KeyError, match="k"):
            act.throw(KeyError, "k")
        await act

    await main()


# -- mistakes, at the call ------------------------------------------------------------------------------------------


@virtual_time()
async def test_usage_errors_are_raised_at_the_call() -> None:
    harness = InProcessHarness([])
    kept: list[Agent] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        one, two = await agent("one"), await agent("two")
        kept.extend((one, two))
        wrong: list[tuple[str, Callable[[], Any]]] = [
            ("give a text", lambda: one.send(cast("Any", 5))),
            ("use 'steer' or 'queue'", lambda: one.send("x", how=cast("Any", "later"))),
            ("two agents", lambda: connect(one, cast("Any", "two"))),
            ("use 'both' or 'forward'", lambda: connect(one, two, cast("Any", "back"))),
            ("cannot be connected to itself", lambda: connect(one, one)),
        ]
        for text, call in wrong:
            with pytest.raises(UsageError, match=text):
                call()

    await main()
    with pytest.raises(NoProcess):
        connect(*kept)


@virtual_time()
async def test_connect_after_the_process_has_ended_says_so_at_the_call() -> None:
    harness = InProcessHarness([])
    said: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> asyncio.Task[None]:
        one, two = await agent("one"), await agent("two")

        async def late() -> None:
            await asyncio.sleep(10)
            with pytest.raises(ProcessEnded) as caught:
                connect(one, two)
            said.append(str(caught.value))

        return asyncio.create_task(late(), name="late")

    await (await main())
    assert said[0].startswith("connect(): the process main#1 has ended")


# -- failures that nobody awaits --------------------------------------------------------------------------------------


@virtual_time()
async def test_a_failure_that_nobody_awaits_fails_the_process_and_names_the_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = InProcessHarness([])
    ended: list[str] = []

    async def part() -> None:
        one, two = await agent("one"), await agent("two")
        one.on("message")(lambda: "mine")
        try:
            connect(one, two)
            await wait()
        finally:
            ended.append("the body")

    process = agent_process(part)

    @agent_process(image=harness.image)
    async def main() -> None:
        handle = spawn(process)
        failed = await handle.events.listen_for("failed")
        where = f"from connect(), called at {line_of(part, 'connect(one')}, which nobody awaited"
        assert failed.data == f"ToolExists: agent 'one' has a tool 'message' already; choose another name ({where})"
        await handle

    said = await fails(main, ToolExists)
    assert line_of(part, "connect(one") in said
    assert "which nobody awaited" in said
    assert ended == ["the body"]


FAILING: dict[str, tuple[Callable[[Agent, Any], Eager], type[Exception]]] = {
    "send": (lambda worker, host: worker.send(HUGE), MessageTooLarge),
    "interrupt": (lambda worker, host: dead(worker).interrupt(), AgentDied),
    "send to one that died": (lambda worker, host: dead(worker).send("x"), AgentDied),
    "connect with one that died": (lambda worker, host: connect(dead(worker), worker), UsageError),
    "stop": (lambda worker, host: host.stop(), MachineError),
}


def dead(worker: Agent) -> Agent:
    worker.on_exit(lambda reason: None)
    worker.ref.exit("kill")
    return worker


class Stubborn(InProcessMachine):
    async def stop(self) -> None:
        await super().stop()
        raise MachineError("the machine could not be removed")


class StubbornImage(InProcessImage):
    async def spawn(self) -> InProcessMachine:
        return Stubborn(self._harness, 1)


@virtual_time()
@pytest.mark.parametrize("verb", [verb for verb in FAILING if FAILING[verb][1] is not UsageError])
@pytest.mark.parametrize("when", ["dropped", "dropped as the last statement", "kept", "in a cycle", "in a thread"])
async def test_it_counts_when_it_is_dropped_or_the_body_ends(verb: str, when: str) -> None:
    act, error = FAILING[verb]
    harness = InProcessHarness([])
    reached: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        host = await machine(StubbornImage(harness))
        match when:
            case "dropped":
                act(worker, host)
                await asyncio.sleep(100)
                reached.append("the process went on")
            case "dropped as the last statement":
                act(worker, host)
            case "in a thread":
                await asyncio.to_thread(act, worker, host)
                await asyncio.sleep(100)
                reached.append("the process went on")
            case "kept":
                kept = act(worker, host)
                await asyncio.sleep(100)
                reached.append("not before the end")
                assert repr(kept).endswith(": failed>")
            case _:
                round: list[Any] = [act(worker, host)]
                round.append(round)
                await asyncio.sleep(100)
                reached.append("not before the end")
                del round
                gc.collect()
                await asyncio.sleep(100)
                reached.append("the process went on")

    said = await fails(main, error)
    assert "which nobody awaited" in said
    assert reached == (["not before the end"] if when in ("kept", "in a cycle") else [])


@virtual_time()
async def test_a_failure_that_is_awaited_late_is_raised_there_and_counts_no_more() -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        act = worker.send(HUGE)
        await asyncio.sleep(10)
        with pytest.raises(MessageTooLarge):
            await act
        del act
        await asyncio.sleep(10)
        return "lives"

    assert await main() == "lives"


@virtual_time()
async def test_a_body_that_raises_fails_with_its_own_error_and_the_other_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        kept = worker.send(HUGE)
        await asyncio.sleep(10)
        raise KeyError(repr(kept))

    await fails(main, KeyError)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("main#1: MessageTooLarge: ")
    assert "from worker.send(), called at " in warning


@virtual_time()
async def test_of_several_the_first_called_fails_the_process_and_the_others_are_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> list[Eager]:
        one, two = await agent("one"), await agent("two")
        kept = [two.send(HUGE), one.send(HUGE), one.send("fine")]
        await asyncio.sleep(10)
        return kept

    assert "two.send(), called at" in await fails(main, MessageTooLarge)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["one.send(), called at" in warning for warning in warnings] == [True]


@virtual_time()
async def test_what_fails_because_the_process_ends_anyway_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def child() -> None:
        worker = await agent("worker")
        emit("ready")
        try:
            await wait()
        finally:
            worker.ref.exit("kill")
            worker.send("too late")
            worker.interrupt()

    @agent_process
    async def main() -> list[str]:
        handle = spawn(child)
        await handle.events.listen_for("ready")
        handle.cancel()
        with pytest.raises(ProcessCancelled):
            await handle
        return [event.type async for event in handle.events]

    assert await main() == ["ready", "cancelled"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@virtual_time()
async def test_the_agents_of_a_process_end_with_it_and_what_was_sent_to_them_is_no_failure() -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> str:
        workers = [await agent(f"w{number}") for number in range(5)]
        for worker in workers:
            for _ in range(20):
                worker.send("more")
            worker.interrupt()
        return "done"

    assert await main() == "done"


@virtual_time()
async def test_in_a_handler_an_endpoint_and_a_task_it_is_the_process_that_fails() -> None:
    harness = InProcessHarness(lambda c: ToolCall("act") if not c.tool_results else "said")

    @agent_process(image=harness.image)
    async def part(where: str) -> None:
        worker = await agent("worker")

        def act() -> str:
            """Act."""
            worker.send(HUGE)
            return "acted"

        worker.on("act")(act)
        expose(act)

        async def task() -> None:
            act()

        match where:
            case "handler":
                worker.send("Begin.")
            case "task":
                await asyncio.create_task(task())
            case _:
                emit("ready")
        await wait()

    @agent_process
    async def main() -> None:
        for where in ("handler", "task", "endpoint"):
            handle = spawn(part, where)
            if where == "endpoint":
                await handle.events.listen_for("ready")
                with contextlib.suppress(ProcessEnded):
                    assert await handle.call("act") == "acted"
            with pytest.raises(MessageTooLarge):
                await handle

    await main()


@virtual_time()
async def test_an_agent_of_another_process_fails_the_one_that_sent() -> None:
    """The agent's owner has done nothing wrong, and lives."""
    harness = InProcessHarness([])

    @agent_process
    async def sends(worker: Agent) -> None:
        worker.send(HUGE)
        await wait()

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        handle = spawn(sends, worker)
        with pytest.raises(MessageTooLarge):
            await handle
        return worker.state

    assert await main() == "idle"


# -- from threads -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def run_in_thread(work: Callable[[], None]) -> AsyncIterator[threading.Thread]:
    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    await asyncio.to_thread(thread.join, 20)


@virtual_time()
async def test_from_another_thread_the_call_is_posted_to_the_loop(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")
    errors: list[BaseException] = []

    @agent_process(image=harness.image)
    async def main() -> str:
        one, two, host, handle = await agent("worker"), await agent("two"), await machine(), spawn(sits)
        loop = asyncio.get_running_loop()

        def work() -> None:
            connect(one, two)
            for number in range(10):
                one.send(str(number))
            one.interrupt()
            asyncio.run_coroutine_threadsafe(one.send("awaited"), loop).result(20)
            asyncio.run(handle.cancel())
            asyncio.run(host.stop())
            try:
                asyncio.run(one.send(HUGE))
            except MessageTooLarge as error:
                errors.append(error)
            done("from a thread")

        await asyncio.to_thread(work)
        assert (handle.ended, host.ref.is_alive()) == (True, False)
        assert "message" in one._actor().tools  # type: ignore[union-attr]
        result: str = await wait()
        return result

    assert await main() == "from a thread"
    assert len(errors) == 1
    assert sent(home) == [*map(str, range(10)), "interrupt", "awaited"]


@virtual_time()
async def test_a_plain_thread_without_the_context_acts_for_the_agents_own_process(home: Path) -> None:
    harness = InProcessHarness(lambda conversation: "said")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        def work() -> None:
            worker.send("fine")
            worker.send(HUGE)

        async with run_in_thread(work):
            await wait()

    said = await fails(main, MessageTooLarge)
    assert "worker.send(), called at" in said
    assert sent(home) == ["fine"]


def test_in_another_thread_after_the_run_has_ended_nothing_happens() -> None:
    kept: list[Any] = []
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        kept.extend((await agent("worker"), await machine(), spawn(sits), current_runtime()))

    asyncio.run(main())
    worker, host, handle, _ = kept
    for act in (worker.send("x"), worker.interrupt(), host.stop(), handle.cancel()):
        del act
    for act, error in ((worker.send("x"), Exception), (handle.cancel(), Exception)):
        with pytest.raises(error):
            asyncio.run(act)


async def test_awaited_sends_let_others_have_their_turn() -> None:
    """An idle agent answers at once, and the await of that does not wait."""
    harness = InProcessHarness(lambda _: "Hm.")

    @agent_process(image=harness.image)
    async def main() -> int:
        worker = await agent("worker")
        turns = 0

        async def counts() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counter = start_task(counts())
        for _ in range(640):
            await worker.send("Take this.")
        counter.cancel()
        return turns

    assert await main() >= 10
