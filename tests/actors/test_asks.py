"""Asking: every ask ends, and says how."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure.actors import NO_REPLY, Actor, ActorSystem, Ask, Ref, Stop, receive, self_ref
from ramure.errors import ActorDied, AskTimeout, RequestRefused, WouldDeadlock
from ramure.exits import Crashed
from ramure.testing import virtual_time


class Server(Actor):
    async def init(self) -> None:
        self.waiting: list[Ask] = []

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        match request:
            case "sleep":
                await self.system.clock.sleep(10)
            case "later":
                self.waiting.append(caller)
                return NO_REPLY
            case "answer":
                for waiting in self.waiting:
                    waiting.reply("at last")
                    waiting.reply("again")
            case "refuse":
                caller.fail(RequestRefused("no"))
            case "crash":
                raise ValueError("oops")
            case "reply and crash":
                caller.reply("replied")
                raise ValueError("oops")
            case ("ask", Ref() as other, timeout):
                return await other.ask("who", timeout=timeout)
            case ("relay", Ref() as other, timeout):
                return await other.ask(("ask", self.ref, timeout), timeout=timeout)
            case ("pass on", Ref() as other):
                return await other.ask(("ask", self.ref, None), timeout=None)
        return request

    async def add(self, a: int, b: int = 0) -> int:
        return a + b

    def plain(self) -> None: ...

    async def _private(self) -> None: ...


async def test_an_error_on_purpose_is_raised_and_the_actor_lives() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        with pytest.raises(RequestRefused, match="no"):
            await ref.ask("refuse")
        assert await ref.ask("x") == "x"


async def test_an_unexpected_request_is_refused() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Actor)
        with pytest.raises(RequestRefused, match="'x'"):
            await ref.ask("x")
        assert ref.is_alive()


async def test_a_crash_ends_the_actor_however_the_message_came() -> None:
    class Crashes(Actor):
        def handle_call(self, request: Any, caller: Ask) -> Any:
            raise ValueError(request)

        handle_cast = handle_info = lambda self, message: self.handle_call(message, None)

    async with ActorSystem() as system:
        for send in (lambda ref: ref.tell("m"), lambda ref: ref.cast("m")):
            ref = await system.start(Crashes)
            send(ref)
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            assert reason.phase is not None
            assert str(reason.phase).startswith("handling")
        ref = await system.start(Crashes)
        with pytest.raises(ActorDied) as caught:
            await ref.ask("m")
        assert isinstance(caught.value.reason, Crashed)
        assert not ref.is_alive()


async def test_a_reply_before_the_crash_counts() -> None:
    async with ActorSystem() as system:
        assert await (await system.start(Server)).ask("reply and crash") == "replied"


async def test_reply_later() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        waiting = [asyncio.create_task(ref.ask("later")) for _ in range(3)]
        await asyncio.sleep(0)
        await ref.ask("answer")
        assert await asyncio.gather(*waiting) == ["at last"] * 3


async def test_whoever_waits_for_a_later_reply_learns_of_the_end() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        waiting = asyncio.create_task(ref.ask("later", timeout=None))
        await asyncio.sleep(0)
        await ref.ask("x")
        ref.exit("kill")
        with pytest.raises(ActorDied) as caught:
            await waiting
        assert caught.value.reason == "killed"


@virtual_time()
async def test_queued_asks_learn_of_the_end_at_once() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        asks = [asyncio.create_task(ref.ask("sleep", timeout=None)) for _ in range(3)]
        await asyncio.sleep(1)
        ref.exit("gone")
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert [getattr(error, "reason", error) for error in results] == ["gone"] * 3
        assert system.clock.monotonic() == 1


@virtual_time()
async def test_a_timeout_names_who_was_asked_what_and_what_it_does() -> None:
    async with ActorSystem() as system:
        ref = await system.options(label="slow one").start(Server)
        with pytest.raises(AskTimeout, match=r"slow one.*'sleep' within 5 s \(it is handling ask 'sleep'\)"):
            await ref.ask("sleep")
        assert system.clock.monotonic() == 5.0


@virtual_time()
async def test_deadlines_of_many_asks_each_run_out_in_their_time() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        ref.cast("x")

        async def ask(delay: float, timeout: float) -> float:
            await asyncio.sleep(delay)
            with pytest.raises(AskTimeout):
                await ref.ask("sleep", timeout=timeout)
            return system.clock.monotonic()

        times = [(0.0, 2.0), (0.5, 2.0), (1.0, 1.0), (1.0, 0.25), (1.5, 2.0)]
        assert await asyncio.gather(*(ask(*t) for t in times)) == [sum(t) for t in times]


async def test_timeouts_that_differ_each_time_leave_no_tables_behind() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        for n in range(1100):
            await ref.ask("x", timeout=5.0 + n / 1000)
        assert len(system.deadlines._buckets) <= 1001


@virtual_time()
async def test_a_cancelled_asker_leaves_the_server_alone() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        asking = asyncio.create_task(ref.ask("sleep", timeout=None))
        await asyncio.sleep(1)
        asking.cancel()
        assert await ref.ask("x", timeout=None) == "x"
        assert system.clock.monotonic() == 10


@virtual_time()
async def test_a_killed_asker_leaves_the_server_alone() -> None:
    async with ActorSystem() as system:
        server, asker = await system.start(Server), await system.start(Server)
        server.cast("x")
        blocked = asyncio.create_task(server.ask("sleep", timeout=None))
        asking = asyncio.create_task(asker.ask(("ask", server, None), timeout=None))
        await asyncio.sleep(1)
        asker.exit("kill")
        with pytest.raises(ActorDied):
            await asking
        assert await blocked == "sleep"
        assert await server.ask("x") == "x"


async def test_asking_the_dead() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        await ref.stop()
        with pytest.raises(ActorDied, match="noproc"):
            await ref.ask("x")


# -- waits that would never end ---------------------------------------------------------------------------


async def test_asking_oneself_is_refused() -> None:
    async def body() -> None:
        await self_ref().ask("x")

    async with ActorSystem() as system:
        reason = await system.spawn(body).wait()
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, WouldDeadlock)


async def test_a_cycle_of_asks_without_limit_is_refused() -> None:
    async with ActorSystem() as system:
        one, two = await system.start(Server), await system.start(Server)
        with pytest.raises(ActorDied) as caught:
            await one.ask(("pass on", two), timeout=None)
        reason: Any = caught.value.reason
        while isinstance(reason.exception, ActorDied):
            reason = reason.exception.reason
        assert isinstance(reason.exception, WouldDeadlock)
        assert reason.exception.path == (two.label, one.label, two.label)


@virtual_time()
async def test_a_cycle_of_asks_with_limits_ends_in_a_timeout() -> None:
    async with ActorSystem() as system:
        one, two = await system.start(Server), await system.start(Server)
        with pytest.raises((ActorDied, AskTimeout)):
            await one.ask(("relay", two, 1.0), timeout=3.0)


async def test_stopping_oneself_is_refused() -> None:
    async def body() -> None:
        await self_ref().stop()

    async with ActorSystem() as system:
        reason = await system.spawn(body).wait()
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, WouldDeadlock)


# -- proxies ------------------------------------------------------------------------------------------------


async def test_a_proxy_calls_public_async_methods_only() -> None:
    async with ActorSystem() as system:
        proxy = (await system.start(Server)).proxy()
        assert await proxy.add(1, b=2) == 3
        for name in ("plain", "_private", "stop", "init", "handle_call", "nothing"):
            with pytest.raises(AttributeError, match="its public async methods: add"):
                getattr(proxy, name)


async def test_arguments_that_do_not_fit_are_the_callers_mistake() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Server)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            await ref.proxy().add()  # type: ignore[call-arg]
        assert await ref.proxy().add(1) == 1


async def test_call_soon_waits_for_nobody() -> None:
    class Noted(Actor):
        async def init(self) -> None:
            self.notes: list[int] = []

        async def note(self, n: int) -> None:
            self.notes.append(n)

        async def get(self) -> list[int]:
            return self.notes

    async with ActorSystem() as system:
        ref = await system.start(Noted)
        ref.call_soon(Noted.note, 1)
        ref.call_soon(Noted.note, n=2)
        assert await ref.proxy().get() == [1, 2]


# -- function-style actors ----------------------------------------------------------------------------------


async def test_a_function_answers_asks() -> None:
    async def doubler() -> None:
        while True:
            ask = await receive(Ask)
            ask.reply(ask.request * 2)

    async with ActorSystem() as system:
        ref = system.spawn(doubler)
        assert [await ref.ask(n) for n in range(3)] == [0, 2, 4]


async def test_an_ask_that_a_function_took_is_answered_by_its_end() -> None:
    async def takes() -> None:
        await receive(Ask)
        await receive("never")

    async with ActorSystem() as system:
        ref = system.spawn(takes)
        taken = asyncio.create_task(ref.ask("x", timeout=None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ref.exit("gone")
        with pytest.raises(ActorDied) as caught:
            await taken
        assert caught.value.reason == "gone"


async def test_an_ask_handed_to_a_reader_that_is_killed_before_it_runs() -> None:
    async def takes() -> None:
        await receive(Ask)

    async def asks_and_kills(target: Ref[Any]) -> None:
        asking = asyncio.ensure_future(target.ask("x", timeout=None))
        await asyncio.sleep(0)
        target.exit("kill")
        with pytest.raises(ActorDied):
            await asking
        raise Stop("answered")

    async with ActorSystem() as system:
        ref = system.spawn(takes)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await system.spawn(asks_and_kills, ref).wait() == "answered"
