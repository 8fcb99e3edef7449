"""``expose`` and ``handle.call``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ramure import (
    EndpointError,
    NoSuchEndpoint,
    ProcessEnded,
    WrongArguments,
    agent,
    agent_process,
    done,
    emit,
    expose,
    fail,
    spawn,
    wait,
)
from ramure.agents.errors import ToolExists
from ramure.agents.tools.schema import UnsupportedParameter
from ramure.testing import InProcessHarness, ToolCall, virtual_time


@virtual_time()
async def test_an_endpoint_runs_in_the_child_and_its_value_comes_back() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def add(a: int, b: int = 1) -> int:
            emit("added")
            await asyncio.sleep(1)
            return a + b

        @expose(name="concat")
        def plain(a: str) -> str:
            return a + "!"

        await wait()

    @agent_process
    async def main() -> tuple[list[Any], list[str]]:
        handle = spawn(child)
        values = [await handle.call("add", a=1), await handle.call("add", a=1, b=2), await handle.call("concat", a="x")]
        return values, [event.type for event in handle.events.snapshot()]

    assert await main() == ([2, 3, "x!"], ["added", "added"])


@virtual_time()
async def test_endpoints_run_concurrently() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def slow(n: int) -> int:
            await asyncio.sleep(100)
            return n

        await wait()

    @agent_process
    async def main() -> tuple[list[int], float]:
        handle = spawn(child)
        values = await asyncio.gather(*(handle.call("slow", n=n) for n in range(50)))
        return values, asyncio.get_running_loop().time()

    values, took = await main()
    assert values == list(range(50))
    assert took < 110


@virtual_time()
async def test_a_body_that_is_busy_does_not_starve_its_endpoints() -> None:
    @agent_process
    async def child() -> None:
        @expose
        def ping() -> str:
            return "pong"

        await asyncio.sleep(1000)

    @agent_process
    async def main() -> tuple[str, float]:
        return await spawn(child).call("ping"), asyncio.get_running_loop().time()

    answer, took = await main()
    assert answer == "pong"
    assert took < 10


@virtual_time()
async def test_an_endpoint_may_call_its_own_process_s_endpoints() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def outer(me: Any) -> str:
            return f"outer({await me.call('inner', me=me)})"

        @expose
        async def inner(me: Any) -> str:
            return f"inner({await me.call('leaf')})"

        @expose
        def leaf() -> str:
            return "leaf"

        await wait()

    @agent_process
    async def main() -> str:
        handle = spawn(child)
        return await handle.call("outer", me=handle)

    assert await main() == "outer(inner(leaf))"


@virtual_time()
async def test_a_body_may_call_its_own_endpoints() -> None:
    @agent_process
    async def child(box: list[Any]) -> str:
        @expose
        def ping() -> str:
            return "pong"

        return await box[0].call("ping")

    @agent_process
    async def main() -> str:
        box: list[Any] = []
        box.append(spawn(child, box))
        return await box[0]

    assert await main() == "pong"


@virtual_time()
async def test_an_endpoint_that_is_not_yet_exposed_is_waited_for() -> None:
    @agent_process
    async def child() -> None:
        await asyncio.sleep(100)

        @expose
        def late() -> str:
            return "there"

        await wait()

    @agent_process
    async def main() -> str:
        return await spawn(child).call("late")

    assert await main() == "there"


@virtual_time()
async def test_from_the_first_wait_on_an_unknown_endpoint_is_refused_with_what_exists() -> None:
    @agent_process
    async def child() -> None:
        @expose
        def b() -> None: ...
        @expose
        def a() -> None: ...

        await asyncio.sleep(50)
        await wait()

    @agent_process
    async def main() -> tuple[str, list[str], float, str]:
        handle = spawn(child)
        with pytest.raises(NoSuchEndpoint) as early:
            await handle.call("c")
        at = asyncio.get_running_loop().time()
        with pytest.raises(NoSuchEndpoint) as late:
            await handle.call("d")
        return str(early.value), sorted(early.value.existing), at, str(late.value)

    text, existing, at, late = await main()
    assert text == "the process child#2 has no endpoint 'c'; it has: a, b"
    assert existing == ["a", "b"]
    assert 50 <= at < 60
    assert "'d'" in late


@virtual_time()
async def test_an_endpoint_s_exception_is_the_caller_s_and_does_not_end_the_child() -> None:
    @agent_process
    async def child() -> str:
        @expose
        def broken() -> None:
            raise LookupError("not here")

        @expose
        def finish() -> None:
            done("alive")

        return await wait()  # type: ignore[no-any-return]

    @agent_process
    async def main() -> tuple[str, BaseException | None, str]:
        handle = spawn(child)
        with pytest.raises(EndpointError) as caught:
            await handle.call("broken")
        await handle.call("finish")
        return str(caught.value), caught.value.__cause__, await handle

    text, cause, result = await main()
    assert text == "endpoint 'broken' of the process child#2 raised LookupError: not here"
    assert isinstance(cause, LookupError)
    assert result == "alive"


@virtual_time()
async def test_arguments_that_do_not_fit_are_the_callers_mistake_and_the_right_ones_are_listed() -> None:
    @agent_process
    async def child() -> None:
        @expose
        def one(a: int) -> int:
            return a

        await wait()

    @agent_process
    async def main() -> None:
        with pytest.raises(WrongArguments, match=r"there is no argument 'b'; it takes one\(a: "):
            await spawn(child).call("one", b=1)

    await main()


@pytest.mark.parametrize("ends", ["returns", "fails", "cancelled", "killed"])
def test_a_call_ends_when_the_child_does(ends: str) -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def never() -> None:
            emit("called")
            await asyncio.sleep(1e6)

        await asyncio.sleep(10)
        match ends:
            case "returns":
                return
            case "fails":
                raise ValueError("broken")
            case _:
                await asyncio.sleep(1e6)

    @agent_process
    async def main() -> float:
        handle = spawn(child)
        call = asyncio.create_task(handle.call("never"))
        missing = asyncio.create_task(handle.call("missing"))  # its wait for an endpoint ends too
        await handle.events.listen_for("called")
        if ends == "cancelled":
            await handle.cancel()
        elif ends == "killed":
            (await handle.ref()).exit("kill")
        for each in (call, missing):
            with pytest.raises(ProcessEnded, match="child#2 has ended"):
                await each
        with pytest.raises(ProcessEnded):
            await handle.call("never")
        if ends in ("fails", "killed"):
            handle.events.snapshot()
        return asyncio.get_running_loop().time()

    @virtual_time()
    async def go() -> None:
        assert await main() < 60

    go()


@virtual_time()
async def test_a_call_that_its_caller_gives_up_ends_only_for_the_caller() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def slow() -> None:
            await asyncio.sleep(100)
            emit("finished")

        await wait()

    @agent_process
    async def main() -> float:
        handle = spawn(child)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await handle.call("slow")
        await handle.events.listen_for("finished")
        return asyncio.get_running_loop().time()

    assert 100 <= await main() < 110


@virtual_time()
async def test_an_endpoint_may_decide_the_process_and_is_still_answered() -> None:
    @agent_process
    async def child(how: str) -> Any:
        @expose
        async def decide() -> str:
            done("value") if how == "done" else fail("broken")
            return "decided"

        return await wait()

    @agent_process
    async def main() -> list[Any]:
        first, second = spawn(child, "done"), spawn(child, "fail")
        found = [await first.call("decide"), await first, await second.call("decide")]
        with pytest.raises(Exception, match="broken"):
            await second
        return found

    assert await main() == ["decided", "value", "decided"]


@virtual_time()
async def test_an_endpoint_can_be_replaced() -> None:
    @agent_process
    async def child() -> None:
        @expose(name="which")
        def first() -> int:
            return 1

        @expose(name="which")
        def second() -> int:
            return 2

        await wait()

    @agent_process
    async def main() -> Any:
        handle = spawn(child)
        await asyncio.sleep(1)
        return await handle.call("which")

    assert await main() == 2


class Thing:
    """What no model can be told of, and a handle's caller can give."""


@virtual_time()
async def test_a_later_endpoint_that_cannot_be_a_tool_is_told_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = InProcessHarness(lambda c: "ok" if c.new_tool_results else ToolCall("p_good", {}))

    @agent_process
    async def child() -> None:
        await asyncio.sleep(10)

        @expose
        async def takes(x: Thing) -> str:
            return type(x).__name__

        @expose
        async def mine() -> None: ...

        @expose
        async def good() -> str:
            return "good"

        await wait()

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")

        @worker.on("p_mine")
        async def mine() -> None:
            """Is there already."""

        handle = spawn(child)
        await handle.attach(worker, prefix="p_")
        await asyncio.sleep(20)
        await worker.ask("Go.")
        said: str = await handle.call("takes", x=Thing())
        return said

    with caplog.at_level(logging.WARNING):
        assert await main() == "Thing"
    harness.check()
    assert [result.text for result in harness.requests[-1].conversation.tool_results] == ["good"]
    unsupported, exists = [record.getMessage() for record in caplog.records]
    begins = "main#1/child#2: its endpoint {!r} is no tool of agent 'worker', attached to it: "
    assert unsupported.startswith(begins.format("takes"))
    assert "the tool 'p_takes' cannot have the parameter 'x'" in unsupported
    assert exists.startswith(begins.format("mine"))


@virtual_time()
async def test_an_endpoint_that_is_there_and_cannot_be_a_tool_is_the_attacher_s_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = InProcessHarness([])

    @agent_process
    async def child() -> None:
        @expose
        async def good() -> None: ...

        @expose
        async def takes(x: Thing) -> None: ...

        await wait()

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        handle = spawn(child)
        await asyncio.sleep(1)
        with pytest.raises(UnsupportedParameter, match="'takes'"):
            await handle.attach(worker)
        await handle.attach(worker, only=["good"])  # no tool was added before
        with pytest.raises(ToolExists, match="'good'"):
            await handle.attach(worker, only=["good"])

    with caplog.at_level(logging.WARNING):
        await main()
    assert not caplog.records


@virtual_time()
async def test_a_process_that_lives_long_forgets_the_agents_that_were_attached_to_it() -> None:
    harness = InProcessHarness([])

    @agent_process
    async def child() -> None:
        await wait()

    @agent_process
    async def worker(handle: Any) -> None:
        await handle.attach(await agent("w"))

    @agent_process(image=harness.image)
    async def main() -> None:
        handle = spawn(child)
        for _ in range(20):
            await worker(handle)
        assert len(handle._record._attachments) <= 1

    await main()
