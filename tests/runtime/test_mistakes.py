"""What users get wrong, and odd uses that are right: a clear error where it was done, and nothing hangs or dies of it."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import pickle
import socket
import threading
from pathlib import Path
from typing import Any, cast

import pytest

import ramure
from ramure import (
    AgentDied,
    EndpointError,
    Event,
    LocalImage,
    NoSuchEndpoint,
    ProcessCancelled,
    ProcessEnded,
    ProcessFailed,
    ProcessTimeout,
    UsageError,
    agent,
    agent_process,
    bubble,
    child,
    connect,
    current_runtime,
    done,
    emit,
    expose,
    fail,
    machine,
    spawn,
    start_task,
    supervise,
    wait,
)
from ramure.agents.errors import MessageTooLarge, ToolExists
from ramure.machines.errors import MachineDown
from ramure.runtime.run.gateway import GatewayUnavailable
from ramure.testing import InProcessHarness, ToolCall, virtual_time


@agent_process
async def quick(value: Any = 1) -> Any:
    return value


@agent_process
async def sits() -> None:
    await wait()


class CallableObject:
    """A callable without a name."""

    async def __call__(self) -> None: ...


def wrong(function: Any, *args: Any, **kwargs: Any) -> str:
    """What is said of a call that is a mistake."""
    with pytest.raises(UsageError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


async def wrong_awaited(work: Any) -> str:
    with pytest.raises(UsageError) as caught:
        await work
    return str(caught.value)


# -- what is no process, no option, no image ------------------------------------------------------------------------


def test_what_cannot_be_a_process_is_said_by_the_decorator() -> None:
    async def generator() -> Any:
        yield 1

    assert "async def len(...)" in wrong(agent_process, len)
    assert "use emit(type, data)" in wrong(agent_process, generator)
    assert "decorate it once" in wrong(agent_process, quick)
    for other in (CallableObject(), 3, "x"):
        assert "needs an async function" in wrong(agent_process, other)


@pytest.mark.parametrize(
    "option",
    [
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": float("nan")},
        {"retain": 0},
        {"retain": "all"},
        {"rotate_logs": 0},
        {"disk_full_timeout": None},
        {"port": "80"},
        {"port": 65536},
        {"host": ""},
        {"base_url": "http://here"},
        {"log_dir": 5},
        {"image": "ubuntu"},
        {"image": LocalImage},
    ],
    ids=str,
)
def test_an_option_that_will_not_do_is_said_by_the_decorator(option: dict[str, Any]) -> None:
    [(name, value)] = option.items()
    assert f"{name}={value!r}" in wrong(agent_process, **option)


def test_a_port_that_is_in_use_is_said_once_by_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        @agent_process(port=taken.getsockname()[1])
        async def main() -> None: ...

        with pytest.raises(GatewayUnavailable, match="already in use; pass another"):
            asyncio.run(main())
    assert [record.message for record in caplog.records] == []


@virtual_time()
async def test_what_agents_and_machines_are_made_from_is_checked_before_anything_is_made() -> None:
    harness = InProcessHarness([])
    refused: dict[str, Any] = {
        "image": LocalImage, "machine": "box", "model": 5, "system_prompt": b"x", "restart": "permanent",
        "max_restarts": -1, "within": 0, "backoff": 3, "stale_after": -1,
    }  # fmt: skip

    @agent_process(image=harness.image)
    async def main() -> None:
        for name, value in refused.items():
            assert repr(value) in await wrong_awaited(agent("worker", **{name: value}))
        said = await wrong_awaited(agent("worker", daemons="forever"))  # type: ignore[arg-type]
        assert said == ("agent('worker'): daemons='forever': choose end (with pi) or keep (until the machine's end)")
        said = await wrong_awaited(agent("worker", stale_after=0))
        assert said == "agent('worker'): stale_after=0: give seconds (more than 0)"
        for prompt in ("x" * 17_000_000, "\N{SNOWMAN}" * 3_000_000):
            said = await wrong_awaited(agent("worker", system_prompt=prompt))
            assert f"agent('worker'): system_prompt has {len(prompt)} characters, and is too large" in said
            assert "write it to a file" in said
        assert "no image" in await wrong_awaited(machine(cast("Any", 5)))
        assert "two agents" in wrong(connect, None, None)

    await main()
    assert harness.machines == []


@virtual_time()
async def test_a_method_can_be_a_process() -> None:
    class App:
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        @agent_process
        async def greet(self, whom: str) -> str:
            return f"{self.greeting} {whom}"

        @agent_process
        async def main(self) -> list[str]:
            tree = await supervise(child(self.greet, "d", id="d"))
            return [
                await self.greet("a"),
                await spawn(self.greet, "b"),
                await spawn(App.greet, self, "c"),
                *(await tree).values(),
            ]

    assert await App("hello").main() == ["hello a", "hello b", "hello c", "hello d"]


# -- outcomes -------------------------------------------------------------------------------------------------------


@virtual_time()
@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (None, "ProcessFailed: it failed, and gave no reason"),
        ("", "ProcessFailed: it failed, and gave no reason"),
        (ValueError, "ValueError"),
        (ValueError(), "ValueError"),
        (StopIteration(3), "TypeError: StopIteration interacts badly"),
    ],
)
async def test_a_failure_has_a_text_whatever_fail_is_given(reason: Any, text: str) -> None:
    @agent_process
    async def fails() -> None:
        fail(reason)
        await wait()

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(fails).events]

    [ending] = await main()
    assert ending.type == "failed"
    assert ending.data.startswith(text)


@virtual_time()
async def test_what_is_emitted_after_done_is_in_the_stream_before_the_ending() -> None:
    @agent_process
    async def goes_on() -> None:
        done(1)
        done(2)
        emit("after done")
        await wait()
        emit("after wait")

    @agent_process
    async def main() -> list[tuple[str, Any]]:
        return [(event.type, event.data) async for event in spawn(goes_on).events]

    assert await main() == [("after done", None), ("after wait", None), ("done", 1)]


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@virtual_time()
@pytest.mark.parametrize(
    "value", [BadRepr(), circle(), deep(), {(1, 2): 3}, {1, 2}, "\ud800", float("nan")], ids=range(7)
)
async def test_any_value_can_be_emitted_and_returned_and_the_log_goes_on(value: Any, home: Path) -> None:
    @agent_process
    async def gives() -> Any:
        emit("value", value)
        return value

    @agent_process
    async def main() -> Path:
        handle = spawn(gives)
        assert await handle is value
        assert [event.type async for event in handle.events] == ["value", "done"]
        emit("and on")
        return current_runtime().paths.run_log

    log = (await main()).read_text(errors="surrogateescape").splitlines()
    told = [entry["event"] for entry in map(json.loads, log) if entry["type"] == "event"]
    assert told == ["value", "done", "and on", "done"]


def test_exceptions_can_be_copied_and_pickled() -> None:
    for error in (
        ProcessEnded("a", "b", "killed"),
        EndpointError("a", "b", ValueError(1)),
        NoSuchEndpoint("a", "b", ["c"]),
        ProcessFailed("x"),
        ProcessTimeout("a", 3.0),
        ProcessCancelled("a", "shutdown"),
        AgentDied("a", "killed"),
    ):
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)


# -- events ---------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_events_and_tags_are_texts() -> None:
    @agent_process
    async def main() -> None:
        handle = spawn(sits)
        for name in ("", None, 5, b"x", "failed"):
            assert repr(name) in wrong(emit, name)
        assert "source=5" in wrong(bubble, handle, source=5)
        for what in (None, sits, handle.events):
            assert "give a handle" in wrong(bubble, what)

    await main()


@virtual_time()
async def test_a_bubble_that_would_go_round_for_ever_is_refused() -> None:
    handles: list[Any] = []

    @agent_process
    async def part(number: int) -> str:
        await asyncio.sleep(1)
        try:
            bubble(handles[(number + 1) % 3])
        except UsageError as error:
            return str(error)
        emit("e", number)
        await asyncio.sleep(number + 1)
        return ""

    @agent_process
    async def alone() -> str:
        await asyncio.sleep(1)
        return wrong(bubble, handles[-1])

    @agent_process
    async def main() -> list[str]:
        handles.extend(spawn(part, number) for number in range(3))
        said = [await handle for handle in handles]
        handles.append(spawn(alone))
        return [*said, await handles[-1]]

    *said, of_itself = await main()
    assert [bool(text) for text in said] == [False, False, True]
    assert all("would go round for ever" in text for text in (said[2], of_itself))


@virtual_time()
async def test_a_child_of_a_tree_cannot_have_its_own_place_s_events() -> None:
    trees: list[Any] = []

    @agent_process
    async def part() -> list[str]:
        await asyncio.sleep(1)
        return [wrong(bubble, each) for each in (trees[0], trees[0]["part"])]

    @agent_process
    async def main() -> dict[str, list[str]]:
        trees.append(await supervise(child(part)))
        return cast("dict[str, list[str]]", await trees[0])

    assert all("go round for ever" in text for text in (await main())["part"])


@virtual_time()
async def test_a_bubble_that_is_asked_for_twice_is_made_once_for_each_tag() -> None:
    @agent_process
    async def says() -> None:
        await asyncio.sleep(1)
        emit("e")

    @agent_process
    async def parent() -> None:
        handle = spawn(says)
        bubble(handle, source="a")
        bubble(handle, source="a")
        bubble(handle, source="b")
        await handle
        bubble(handle, source="a")

    @agent_process
    async def main() -> list[tuple[str, str | None]]:
        return [(event.type, event.source) async for event in spawn(parent).events]

    assert sorted((await main())[:-1]) == [("done", "a"), ("done", "b"), ("e", "a"), ("e", "b")]


# -- endpoints, tasks, cancelling ------------------------------------------------------------------------------------


@virtual_time()
async def test_what_cannot_be_an_endpoint_is_said_by_expose() -> None:
    def generator() -> Any:
        yield 1

    @agent_process
    async def main() -> None:
        assert "give a function" in wrong(expose, 5)
        assert "cannot `yield`" in wrong(expose, generator)
        assert "needs a name" in wrong(expose(name=""), len)
        assert "needs a name" in wrong(expose, CallableObject())

    await main()


@virtual_time()
async def test_an_endpoint_that_is_cancelled_from_within_is_an_endpoint_error_and_its_process_lives() -> None:
    @agent_process
    async def serves() -> None:
        @expose
        async def cancelled() -> None:
            task = asyncio.create_task(asyncio.sleep(10))
            task.cancel()
            await task

        @expose
        def fine() -> str:
            return "fine"

        await wait()

    @agent_process
    async def main() -> str:
        handle = spawn(serves)
        with pytest.raises(EndpointError, match="raised CancelledError"):
            await handle.call("cancelled")
        return cast("str", await handle.call("fine"))

    assert await main() == "fine"


@virtual_time()
async def test_only_coroutines_are_started_as_tasks() -> None:
    @agent_process
    async def main() -> None:
        for what in (len, None, quick, asyncio.sleep):
            assert "give a coroutine" in wrong(start_task, what)
        assert await start_task(quick(7)) == 7

    await main()


@virtual_time()
@pytest.mark.parametrize("of", ["itself", "its parent"])
async def test_a_process_that_cancels_itself_or_what_it_is_part_of_ends_at_once(of: str) -> None:
    handles: list[Any] = []
    reached: list[str] = []

    @agent_process
    async def cancels() -> None:
        await asyncio.sleep(1)
        await handles[0].cancel()
        reached.append("behind it")

    @agent_process
    async def parent() -> None:
        await cancels()

    @agent_process
    async def main() -> tuple[list[str], float]:
        handles.append(spawn(cancels if of == "itself" else parent))
        began = asyncio.get_running_loop().time()
        types = [event.type async for event in handles[0].events]
        return types, asyncio.get_running_loop().time() - began

    types, took = await main()
    assert types == ["cancelled"]
    assert took < 2  # the second that it sleeps: nothing was abandoned after the time for cleanup
    assert reached == []


@virtual_time()
async def test_handles_can_be_cancelled_again_and_at_once() -> None:
    @agent_process
    async def main() -> None:
        handle = spawn(sits)
        await asyncio.gather(handle.cancel(), handle.cancel())
        await handle.cancel()
        with pytest.raises(ProcessCancelled):
            await handle

    await main()


@virtual_time()
async def test_timeouts_nested_in_a_gather_end_what_they_are_around() -> None:
    async def limited(seconds: float) -> float:
        try:
            async with asyncio.timeout(seconds):
                await sits()
        except TimeoutError:
            return seconds
        return 0

    @agent_process
    async def main() -> list[float]:
        async with asyncio.timeout(5):
            found = await asyncio.gather(limited(1), limited(3), limited(2))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(limited(10), asyncio.wait_for(sits(), 20))
        alive = [record.label for record in current_runtime().processes.values() if record.outcome is None]
        assert alive == ["main#1"]
        return found

    assert await main() == [1, 3, 2]


# -- threads and loops ----------------------------------------------------------------------------------------------


def test_on_another_thread_only_some_verbs_work_and_the_others_say_so() -> None:
    found: list[str] = []

    def elsewhere(handle: Any) -> None:
        emit("from a thread")
        expose(print)
        found.append(wrong(spawn, quick))
        found.append(wrong(bubble, handle))
        found.extend(wrong(asyncio.run, coroutine) for coroutine in (quick(2), wait(), machine()))

    @agent_process
    async def main() -> None:
        await asyncio.to_thread(elsewhere, spawn(sits))

    asyncio.run(main())
    assert len(found) == 5
    assert all("on another thread than the event loop of main#1" in text for text in found)


def test_a_thread_of_a_process_can_have_a_run_of_its_own_in_an_empty_context() -> None:
    @agent_process
    async def main() -> tuple[Any, Any]:
        in_empty = await asyncio.to_thread(lambda: contextvars.Context().run(asyncio.run, quick("its own")))
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(quick("bare"))))
        thread.start()
        await asyncio.to_thread(thread.join)
        return in_empty, found[0]

    assert asyncio.run(main()) == ("its own", "bare")


# -- agents ---------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_what_cannot_be_a_tool_is_said_where_it_is_given() -> None:
    harness = InProcessHarness([])

    def generator() -> Any:
        yield 1

    def tool(n: int = 1) -> None:
        """Do."""

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        assert "write @agent.on()" in wrong(worker.on, tool)
        assert "give a function" in wrong(worker.on("x"), 5)
        assert "yield" in wrong(worker.on("x"), generator)
        for name in ("", "a b", "a.b", "ü", "x" * 65):
            assert "1 to 64 letters" in wrong(worker.on(name), tool)
        assert "<lambda>" in wrong(worker.on(), lambda: None)
        worker.on("once")(tool)
        with pytest.raises(ToolExists):
            worker.on("once")(tool)
        worker.on("twice")(tool)  # the refused one has changed nothing

    await main()


@virtual_time()
async def test_what_is_no_message_is_refused_and_the_agent_lives() -> None:
    harness = InProcessHarness(lambda conversation: "heard")

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        for text in (None, 5, b"x"):
            assert repr(text) in wrong(worker.send, text)
            assert repr(text) in await wrong_awaited(worker.ask(cast("Any", text)))
        assert "'later'" in wrong(worker.send, "x", how="later")
        for text in ("x" * 17_000_000, "\N{SNOWMAN}" * 3_000_000):
            with pytest.raises(MessageTooLarge, match="write it to a file"):
                await worker.send(text)
            with pytest.raises(MessageTooLarge):
                await worker.ask(text)
        await worker.send("\ud800 and a \0")
        return await worker.ask("Are you there?")

    assert await main() == "heard"


@virtual_time()
@pytest.mark.parametrize("result", ["x" * 17_000_000, "\N{SNOWMAN}" * 3_000_000])
async def test_a_result_that_no_frame_can_hold_is_an_error_for_the_model(result: str) -> None:
    harness = InProcessHarness(lambda c: ToolCall("big") if not c.tool_results else c.tool_results[-1].text)

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        worker.on("big")(lambda: result)
        return await worker.ask("Call it.")

    assert f"the result of big has {len(result)} characters, and is too large" in await main()


@virtual_time()
async def test_a_handler_that_asks_its_own_agent_is_refused_and_a_task_of_it_is_not() -> None:
    def script(conversation: Any) -> Any:
        if "later" in conversation.last_user_text:
            return "asked later"
        return ToolCall("asks") if not conversation.tool_results else conversation.tool_results[-1].text

    harness = InProcessHarness(script)

    @agent_process(image=harness.image)
    async def main() -> tuple[str, str]:
        worker = await agent("worker")
        tasks: list[asyncio.Task[str]] = []

        @worker.on("asks")
        async def asks() -> str:
            """Ask."""
            tasks.append(start_task(worker.ask("later")))
            return await worker.ask("now")

        return await worker.ask("Begin."), await tasks[0]

    first, later = await main()
    assert "this would never end; use `send`" in first
    assert later == "asked later"


@virtual_time()
async def test_what_is_asked_of_agents_and_machines_that_have_ended_says_so() -> None:
    harness = InProcessHarness([])
    kept: list[Any] = []

    @agent_process
    async def owner() -> None:
        kept.extend([await agent("gone"), await machine()])

    @agent_process(image=harness.image)
    async def main() -> None:
        await owner()
        gone, host = kept
        here = await agent("here")
        for pair in ((gone, here), (here, gone)):
            with pytest.raises(AgentDied, match="agent 'gone' is gone: it ended with the process owner#2"):
                await connect(*pair)
        with pytest.raises(MachineDown, match="machine 2> is down: it has ended"):
            await agent("late", machine=host)
        assert list(current_runtime().agents) == ["here"]

    await main()


@virtual_time()
async def test_a_subscriber_is_called_in_the_process_that_subscribed() -> None:
    @agent_process
    async def main() -> Any:
        events = spawn(quick).events
        assert "give a plain function" in wrong(events.subscribe, 5)
        assert "use start_task(...)" in wrong(events.subscribe, main.function)
        events.subscribe(lambda event: emit("heard", event.type))
        events.subscribe(lambda event: done(event.data))
        return await wait()

    assert await main() == 1


@virtual_time()
async def test_the_place_of_a_child_that_is_done_says_so() -> None:
    @agent_process
    async def main() -> None:
        tree = await supervise(child(quick, id="a"))
        await tree
        with pytest.raises(ProcessEnded, match=r"a has ended \(normal\)"):
            await tree["a"].call("anything")

    await main()


# -- many -----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_tasks_left_by_one_of_many_processes_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Where the loop has many tasks, ends are looked over together."""
    event = asyncio.Event()
    left: list[asyncio.Task[bool]] = []

    @agent_process
    async def leaves() -> None:
        left.append(asyncio.create_task(event.wait(), name="left behind"))

    @agent_process
    async def main() -> None:
        handles = [spawn(quick) for _ in range(200)]
        assert await asyncio.gather(*handles) == [1] * 200
        idle = [asyncio.create_task(event.wait()) for _ in range(200)]
        for _ in range(3):
            await spawn(leaves)
        await asyncio.sleep(1)
        event.set()
        await asyncio.gather(*idle, *left)

    await main()
    named = [record.message for record in caplog.records if "left behind" in record.message]
    assert len(named) == 3


def test_every_exception_of_the_public_names_is_a_ramure_error() -> None:
    raised = [getattr(ramure, name) for name in ramure.__all__]
    errors = [each for each in raised if isinstance(each, type) and issubclass(each, BaseException)]
    assert all(issubclass(each, ramure.RamureError) for each in errors)
