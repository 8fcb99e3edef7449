"""Starting is a handshake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure.actors import Actor, ActorSystem, Exit, Ignore, StartIgnored, StartTimeout, Stop, receive, trap_exit
from ramure.errors import ActorDied, NameTaken, NotInActor, StartFailed, UsageError
from ramure.exits import Crashed
from ramure.testing import virtual_time


class Counter(Actor):
    async def init(self, start: int = 0) -> None:
        self.n = start

    async def add(self, k: int) -> int:
        self.n += k
        return self.n

    def handle_info(self, message: Any) -> None:
        self.n += message


class Slow(Actor):
    async def init(self, seconds: float = 1.0) -> None:
        await self.system.clock.sleep(seconds)
        self.seen: list[Any] = []

    def handle_info(self, message: Any) -> None:
        self.seen.append(message)

    async def get(self) -> list[Any]:
        return self.seen


async def test_the_readme_example() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter, start=3)
        assert await counter.proxy().add(2) == 5


@virtual_time()
async def test_start_returns_when_init_has_returned() -> None:
    async with ActorSystem() as system:
        await system.start(Slow, 7.0)
        assert system.clock.monotonic() == 7.0


async def test_start_now_is_for_actors_whose_init_does_not_wait() -> None:
    async with ActorSystem() as system:
        counter = system.options(label="counter").start_now(Counter, start=3)
        assert await counter.proxy().add(2) == 5
        with pytest.raises(UsageError, match="its init waits"):
            system.options(name="slow").start_now(Slow)
        assert system.whereis("slow") is None


@virtual_time()
async def test_messages_that_come_during_init_wait_for_it() -> None:
    async with ActorSystem() as system:
        starting = asyncio.create_task(system.options(name="slow").start(Slow))
        await asyncio.sleep(0.5)
        early = system.whereis("slow")
        assert early is not None
        early.tell("early")
        ref = await starting
        assert ref is early
        assert await ref.proxy().get() == ["early"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), StopIteration(1), asyncio.CancelledError()])
async def test_an_exception_in_init_is_the_reason_and_the_cause(error: BaseException) -> None:
    class Bad(Actor):
        def init(self) -> None:  # type: ignore[override]
            raise error

    async with ActorSystem() as system:
        with pytest.raises(StartFailed) as caught:
            await system.start(Bad)
        assert caught.value.reason == Crashed(error)
        assert caught.value.__cause__ is error
        assert system.actors() == []


async def test_stop_in_init_is_the_reason() -> None:
    class Bad(Actor):
        async def init(self) -> None:
            await asyncio.sleep(0)
            raise Stop("not today")

    async with ActorSystem() as system:
        with pytest.raises(StartFailed) as caught:
            await system.start(Bad)
        assert caught.value.reason == "not today"


@pytest.mark.parametrize("waits", [False, True])
async def test_ignore(waits: bool) -> None:
    class Ignores(Actor):
        async def init(self) -> None:
            if waits:
                await asyncio.sleep(0)
            raise Ignore

    async with ActorSystem() as system:
        with pytest.raises(StartIgnored):
            await system.options(name="x").start(Ignores)
        assert system.whereis("x") is None


@virtual_time()
async def test_init_that_takes_too_long_is_killed() -> None:
    ended = []

    class Hangs(Actor):
        async def init(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(self.system.clock.monotonic())

    async with ActorSystem() as system:
        with pytest.raises(StartTimeout):
            await system.options(timeout=2.0).start(Hangs)
        assert ended == [2.0]
        assert system.actors() == []


@virtual_time()
async def test_killed_while_init_waits() -> None:
    async with ActorSystem() as system:
        starting = asyncio.create_task(system.start(Slow))
        await asyncio.sleep(0.5)
        system.actors()[0].exit("kill")
        with pytest.raises(StartFailed) as caught:
            await starting
        assert caught.value.reason == "killed"


@virtual_time()
async def test_a_cancelled_start_kills_what_it_was_starting() -> None:
    async with ActorSystem() as system:
        starting = asyncio.create_task(system.start(Slow))
        await asyncio.sleep(0.5)
        ref = system.actors()[0]
        starting.cancel()
        await asyncio.wait([starting])
        assert (starting.cancelled(), ref.is_alive()) == (True, False)


async def test_arguments_that_init_does_not_take() -> None:
    async with ActorSystem() as system:
        with pytest.raises(StartFailed, match="unexpected keyword argument 'wrong'"):
            await system.start(Counter, wrong=3)


async def test_a_constructor_that_wants_arguments() -> None:
    class Wants(Actor):
        def __init__(self, must: int) -> None:
            self.must = must

    async with ActorSystem() as system:
        with pytest.raises(StartFailed, match="must"):
            await system.start(Wants)


async def test_self_kill_in_init() -> None:
    class Suicidal(Actor):
        async def init(self) -> None:
            self.ref.exit("kill")

    async with ActorSystem() as system:
        with pytest.raises(StartFailed) as caught:
            await system.start(Suicidal)
        assert caught.value.reason == "killed"


async def test_stop_called_in_init_ends_it_after_a_good_start() -> None:
    ends = []

    class Brief(Actor):
        async def init(self) -> None:
            self.stop("done")

        def terminate(self, reason: object) -> None:
            ends.append(reason)

    async with ActorSystem() as system:
        ref = await system.start(Brief)
        assert await ref.wait() == "done"
        assert ends == ["done"]


async def test_a_taken_name_starts_nothing() -> None:
    async with ActorSystem() as system:
        await system.options(name="hits").start(Counter)
        with pytest.raises(NameTaken, match="hits"):
            await system.options(name="hits").start(Counter)
        with pytest.raises(NameTaken):
            system.options(name="hits").spawn(receive)
        assert len(system.actors()) == 1


@pytest.mark.parametrize("name", ["", "a b", "x" * 201, "é", None, 3])
async def test_names_that_are_none(name: Any) -> None:
    async with ActorSystem() as system:
        ref = await system.start(Counter)
        with pytest.raises(UsageError, match="is no name"):
            system.register(name, ref)


async def test_start_link_outside_of_an_actor() -> None:
    async with ActorSystem() as system:
        with pytest.raises(NotInActor):
            await system.start_link(Counter)
        with pytest.raises(NotInActor):
            system.spawn_link(receive)
        assert system.actors() == []


async def test_a_linked_start_that_fails_ends_the_starter_unless_it_traps() -> None:
    class Bad(Actor):
        async def init(self) -> None:
            raise Stop("bad")

    async def starter(system: ActorSystem, trap: bool) -> None:
        trap_exit(trap)
        try:
            await system.start_link(Bad)
        finally:
            raise Stop((await receive(Exit)).reason if trap else "not reached")

    async with ActorSystem() as system:
        assert await system.spawn(starter, system, False).wait() == "bad"
        assert await system.spawn(starter, system, True).wait() == "bad"


async def test_spawn_wants_an_async_function() -> None:
    async with ActorSystem() as system:
        with pytest.raises(UsageError, match="async function"):
            system.spawn(lambda: 3)  # type: ignore[arg-type,return-value]
        assert system.actors() == []


async def test_killed_before_its_first_step() -> None:
    async with ActorSystem() as system:
        ref = system.spawn(receive)
        ref.exit("kill")
        assert await ref.wait() == "killed"


async def test_a_system_that_is_not_running() -> None:
    system = ActorSystem()
    with pytest.raises(UsageError, match="async with"):
        await system.start(Counter)
    async with system:
        pass
    with pytest.raises(ActorDied):
        await system.start(Counter)
    with pytest.raises(UsageError, match="entered already"):
        async with system:
            pass


async def test_two_systems_do_not_meet() -> None:
    async def links(other: Any) -> None:
        other.link()

    async def monitors(other: Any) -> None:
        other.monitor()

    async with ActorSystem("one") as one, ActorSystem("two") as two:
        theirs = await two.start(Counter)
        for body in (links, monitors):
            reason = await one.spawn(body, theirs).wait()
            assert isinstance(reason, Crashed)
            assert isinstance(reason.exception, UsageError)
        with pytest.raises(UsageError):
            one.register("x", theirs)
        with pytest.raises(UsageError):
            one.registry.register("x", theirs)
        assert theirs.is_alive()
        theirs.tell(1)
        assert await theirs.proxy().add(1) == 2
