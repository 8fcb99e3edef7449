"""Which process code belongs to, and what it gets once that has ended."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest

from ramure import (
    Event,
    ProcessCancelled,
    ProcessEnded,
    UsageError,
    agent_process,
    bubble,
    current_runtime,
    done,
    emit,
    expose,
    fail,
    machine,
    receive,
    self_ref,
    spawn,
    start_task,
    trap_exit,
    wait,
)
from ramure.runtime.errors import NoProcess, WaitsForItself
from ramure.runtime.run import run
from ramure.testing import InProcessHarness, virtual_time

VERBS: dict[str, Any] = {
    "done": lambda: done(1),
    "fail": lambda: fail("no"),
    "emit": lambda: emit("x"),
    "expose": lambda: expose(print),
    "self_ref": lambda: self_ref(),
    "trap_exit": lambda: trap_exit(),
    "spawn": lambda: spawn(leaf),
    "wait": wait,
    "receive": receive,
    "machine": machine,
}
OWNED = contextvars.ContextVar[str]("owned", default="nobody's")


@agent_process
async def leaf() -> str:
    return OWNED.get()


async def use(verb: str) -> Any:
    found = VERBS[verb]()
    return await found if asyncio.iscoroutine(found) else found


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_outside_of_a_process_says_where_it_belongs(verb: str) -> None:
    with pytest.raises(NoProcess, match="outside of a process; call it in a function decorated with @agent_process"):
        asyncio.run(use(verb))


def test_current_runtime_and_start_task_outside_of_a_process() -> None:
    with pytest.raises(NoProcess):
        current_runtime()
    coroutine = asyncio.sleep(0)
    with pytest.raises(NoProcess):
        start_task(coroutine)
    coroutine.close()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_after_the_process_has_ended_raises_process_ended(verb: str) -> None:
    @agent_process
    async def child() -> contextvars.Context:
        return contextvars.copy_context()

    @agent_process
    async def main() -> None:
        context = await child()
        task = asyncio.create_task(use(verb), context=context)
        with pytest.raises(ProcessEnded, match=r"child#2 has ended"):
            await task

    @virtual_time()
    async def go() -> None:
        await main()

    go()


@virtual_time()
async def test_a_process_cannot_be_started_in_one_that_has_ended() -> None:
    @agent_process
    async def child() -> contextvars.Context:
        return contextvars.copy_context()

    @agent_process
    async def main() -> None:
        context = await child()
        with pytest.raises(ProcessEnded, match=r"await leaf\(\): the process child#2 has ended"):
            await asyncio.create_task(leaf(), context=context)

    await main()


@virtual_time()
async def test_gathered_and_created_tasks_inherit_the_scope() -> None:
    @agent_process
    async def child() -> None:
        async def say(what: str) -> None:
            emit(what)

        await asyncio.gather(say("gathered"), say("too"))
        await asyncio.create_task(say("created"))
        async with asyncio.TaskGroup() as group:
            group.create_task(say("grouped"))
        await asyncio.to_thread(emit, "thread")

    @agent_process
    async def main() -> list[str]:
        return [event.type async for event in spawn(child).events]

    assert await main() == ["gathered", "too", "created", "grouped", "thread", "done"]


@virtual_time()
async def test_endpoints_and_tasks_run_in_the_child_s_scope() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def where() -> int:
            emit("endpoint")
            return id(self_ref())

        emit("me", id(self_ref()))
        await wait()

    @agent_process
    async def main() -> tuple[bool, list[str]]:
        handle = spawn(child)
        mine = (await handle.events.listen_for("me")).data
        return await handle.call("where") == mine, [event.type for event in handle.events.snapshot()]

    assert await main() == (True, ["me", "endpoint"])


@virtual_time()
async def test_context_variables_of_the_user_are_inherited() -> None:
    @agent_process
    async def child() -> list[str]:
        before = OWNED.get()
        OWNED.set("the child's")
        return [before, await leaf(), await spawn(leaf)]

    @agent_process
    async def main() -> Any:
        OWNED.set("the root's")
        values = await child()
        return [*values, OWNED.get()]

    OWNED.set("the program's")
    assert await main() == ["the root's", "the child's", "the child's", "the root's"]
    assert OWNED.get() == "the program's"


@virtual_time()
async def test_the_verbs_of_a_child_do_not_reach_its_parent() -> None:
    @agent_process
    async def child() -> str:
        emit("child's")
        done("child's")
        return await wait()  # type: ignore[no-any-return]

    @agent_process
    async def parent() -> list[str]:
        first = await child()
        emit("parent's")
        done("parent's")
        return [first, await wait()]

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(parent).events]

    assert await main() == [Event("parent's"), Event("done", ["child's", "parent's"])]


@virtual_time()
async def test_awaiting_an_ancestor_is_refused_with_the_path() -> None:
    box: list[Any] = []

    @agent_process
    async def inner() -> None:
        await box[0]

    @agent_process
    async def outer() -> None:
        await asyncio.sleep(0)
        await spawn(inner)

    @agent_process
    async def main() -> None:
        box.append(spawn(outer))
        with pytest.raises(WaitsForItself, match=r"main#1/outer#2/inner#3 awaits main#1/outer#2, which waits for it"):
            await box[0]

    await main()


@virtual_time()
async def test_awaiting_oneself_is_refused() -> None:
    box: list[Any] = []

    @agent_process
    async def me() -> None:
        await asyncio.sleep(0)
        await box[0]

    @agent_process
    async def main() -> None:
        box.append(spawn(me))
        with pytest.raises(WaitsForItself):
            await box[0]

    await main()


@virtual_time()
async def test_processes_that_await_each_other_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    box: dict[str, Any] = {}

    @agent_process
    async def one(other: str) -> None:
        await asyncio.sleep(1)
        await box[other]

    @agent_process
    async def main() -> None:
        for name, other in [("a", "b"), ("b", "c"), ("c", "a")]:
            box[name] = spawn(one, other)
        await asyncio.sleep(5)
        assert not any(handle.ended for handle in box.values())
        await box["a"].cancel()
        for name in "bc":
            with pytest.raises(ProcessCancelled):
                await box[name]

    await main()
    told = [record.getMessage() for record in caplog.records if "wait for each other" in record.getMessage()]
    assert told == [
        "main#1/one#4: these processes wait for each other, and none will end by itself: "
        "main#1/one#4 → main#1/one#2 → main#1/one#3 → main#1/one#4"
    ]


@virtual_time()
async def test_an_await_that_has_ended_counts_no_more(caplog: pytest.LogCaptureFixture) -> None:
    box: dict[str, Any] = {}

    @agent_process
    async def first() -> str:
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await box["second"]
        return "first"

    @agent_process
    async def second() -> str:
        await asyncio.sleep(3)
        return "second, after " + await box["first"]

    @agent_process
    async def main() -> str:
        box.update(first=spawn(first), second=spawn(second))
        return await box["second"]

    assert await main() == "second, after first"
    assert "wait for each other" not in caplog.text


# -- images ---------------------------------------------------------------------------------------------------


@virtual_time()
async def test_an_image_is_inherited_by_what_a_process_makes() -> None:
    harness, other = InProcessHarness([]), InProcessHarness([])

    @agent_process
    async def grandchild() -> int:
        await machine()
        return len(harness.machines)

    @agent_process
    async def child() -> int:
        return await grandchild()

    @agent_process(image=other.image)
    async def different() -> int:
        await machine()
        return await grandchild()

    @agent_process(image=harness.image)
    async def main() -> list[int]:
        await machine()
        found = [await child(), await spawn(child)]
        await different()
        await machine(image=other.image)
        return found

    assert await main() == [2, 3]
    assert len(harness.machines) == 3
    assert len(other.machines) == 3


# -- mistakes that are named ------------------------------------------------------------------------------------


@virtual_time()
async def test_what_is_not_a_process_cannot_be_spawned() -> None:
    async def plain() -> None: ...

    @agent_process
    async def main() -> None:
        with pytest.raises(UsageError, match="decorated with @agent_process"):
            spawn(plain)  # type: ignore[arg-type]

    await main()


def test_a_process_is_an_async_function() -> None:
    with pytest.raises(UsageError, match="write `async def plain"):

        @agent_process  # type: ignore[arg-type]
        def plain() -> None: ...


@virtual_time()
async def test_a_bubble_needs_a_process() -> None:
    made = []

    @agent_process
    async def main() -> None:
        made.append(spawn(leaf))
        bubble(made[0])
        await made[0]

    await main()
    with pytest.raises(NoProcess, match=r"bubble\(\)"):
        bubble(made[0])


# -- messages -----------------------------------------------------------------------------------------------------


@virtual_time()
async def test_a_process_receives_what_others_tell_its_ref_in_order_and_by_pattern() -> None:
    @agent_process
    async def server() -> list[Any]:
        emit("ref", self_ref())
        number = await receive(int)
        text = await receive(lambda message: message.startswith("s"))
        rest = [await receive(), await receive("exactly this")]
        with pytest.raises(TimeoutError):
            await receive(timeout=5)
        return [number, text, *rest]

    @agent_process
    async def client(ref: Any) -> None:
        for message in ("a", "s1", 5, "exactly this"):
            ref.tell(message)

    @agent_process
    async def main() -> list[Any]:
        handle = spawn(server)
        ref = (await handle.events.listen_for("ref")).data
        await client(ref)
        assert ref == await handle.ref()
        return await handle

    assert await main() == [5, "s1", "a", "exactly this"]


@virtual_time()
async def test_a_process_may_answer_as_an_erlang_process_does() -> None:
    @agent_process
    async def counter() -> int:
        count = 0
        while True:
            match await receive():
                case ("add", n, sender):
                    count += n
                    sender.tell(("count", count))
                case "stop":
                    return count

    @agent_process
    async def main() -> tuple[list[Any], int]:
        handle = spawn(counter)
        ref = await handle.ref()
        answers = []
        for n in (1, 2):
            ref.tell(("add", n, self_ref()))
            answers.append(await receive(tuple))
        ref.tell("stop")
        return answers, await handle

    assert await main() == ([("count", 1), ("count", 3)], 3)


async def test_a_message_that_comes_in_the_turn_in_which_its_receive_times_out_is_not_lost() -> None:
    @agent_process
    async def main() -> list[Any]:
        me = self_ref()
        loop = asyncio.get_running_loop()

        def send_and_block() -> None:
            me.tell("a message")
            time.sleep(max(0.0, due - loop.time()) + 0.001)  # so its delivery and the timeout are due in one turn

        got = []
        for _ in range(3):
            due = loop.time() + 0.05
            loop.call_soon(send_and_block)
            try:
                got.append(await receive(str, timeout=0.05))
            except TimeoutError:
                got.append(await receive(str))
        return got

    assert await main() == ["a message"] * 3


async def test_a_cancelled_receive_leaves_all_messages_in_their_order() -> None:
    @agent_process
    async def main() -> list[Any]:
        me = self_ref()
        reading = asyncio.ensure_future(receive("b"))
        await asyncio.sleep(0)
        me.tell("a")
        me.tell("b")
        await asyncio.sleep(0)  # both are delivered: the reader has been woken, and has not run yet
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return [await receive(), await receive()]

    assert await main() == ["a", "b"]


@virtual_time()
async def test_a_run_forgets_processes_that_ended_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 50
    monkeypatch.setattr(run, "KEPT_ENDED", kept)

    @agent_process
    async def job() -> None:
        return None

    @agent_process
    async def pool() -> int:
        for _ in range(3 * kept):
            await job()
        return len(current_runtime().processes)

    assert await pool() < 2 * kept + 10
