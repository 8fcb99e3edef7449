"""What other threads, with and without event loops of their own, may do with a ref."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ramure.actors import Actor, ActorSystem, Ask, Mailbox, Ref
from ramure.errors import ActorDied, AskTimeout, MailboxFull, NotInActor, RequestRefused, StopTimeout, UsageError
from tests.actors.soak_threads import Soak

WAIT = 5.0


class Echo(Actor):
    async def init(self) -> None:
        self.got: list[Any] = []
        self.gate = asyncio.Event()

    def handle_info(self, message: Any) -> None:
        self.got.append(message)

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        if request == "block":
            await self.gate.wait()
        if request == "refuse":
            caller.fail(RequestRefused("no"))
        return request


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run ``function`` in a fresh thread, without this test's context."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def body() -> None:
        try:
            value = function()
        except BaseException as error:
            loop.call_soon_threadsafe(result.set_exception, error)
        else:
            loop.call_soon_threadsafe(result.set_result, value)

    threading.Thread(target=body, daemon=True).start()
    return await asyncio.wait_for(result, WAIT)


async def test_what_a_thread_tells_comes_in_its_order() -> None:
    async with ActorSystem() as system:
        echo = await system.start(Echo)
        await in_thread(lambda: [echo.tell(n) for n in range(1000)])
        assert await echo.ask("sync") == "sync"
        assert echo._cell.actor.got == list(range(1000))


async def test_ask_sync_answers_and_raises_as_ask_does() -> None:
    async with ActorSystem() as system:
        echo = await system.start(Echo)
        assert await in_thread(lambda: echo.ask_sync(1)) == 1
        with pytest.raises(RequestRefused):
            await in_thread(lambda: echo.ask_sync("refuse"))
        with pytest.raises(AskTimeout, match="block"):
            await in_thread(lambda: echo.ask_sync("block", timeout=0.01))
        echo.exit("gone")
        with pytest.raises(ActorDied, match="noproc"):
            await in_thread(lambda: echo.ask_sync(1))


async def test_an_ask_in_flight_from_a_thread_ends_with_the_actor() -> None:
    async with ActorSystem() as system:
        echo = await system.start(Echo)
        asking = asyncio.ensure_future(in_thread(lambda: echo.ask_sync("block", timeout=None)))
        while system.info(echo).state != "busy":
            await asyncio.sleep(0)
        echo.exit("kill")
        with pytest.raises(ActorDied, match="killed"):
            await asking


async def test_ask_sync_would_block_a_loop() -> None:
    async with ActorSystem() as system:
        echo = await system.start(Echo)
        with pytest.raises(UsageError, match="await ref.ask"):
            echo.ask_sync(1)


async def test_a_loop_in_another_thread_asks_stops_and_waits() -> None:
    async with ActorSystem() as system:
        one, two, three = [await system.start(Echo) for _ in range(3)]

        async def elsewhere() -> list[object]:
            asked = await asyncio.gather(*(one.ask(n) for n in range(10)))
            await one.send("sent")
            waiting = asyncio.ensure_future(two.wait())
            two.exit("gone")
            results = [asked, await waiting, await two.wait()]
            await one.stop()
            for ref, timeout in ((two, None), (three, 0.01)):
                blocked = asyncio.ensure_future(three.ask("block"))
                try:
                    await asyncio.sleep(0)
                    await ref.stop(timeout=timeout)
                except (ActorDied, StopTimeout) as error:
                    results.append(type(error))
                blocked.cancel()
            return results

        results = await in_thread(lambda: asyncio.run(elsewhere()))
        assert results == [list(range(10)), "gone", "gone", ActorDied, StopTimeout]
        assert not one.is_alive()
        assert three.is_alive()


async def test_a_thread_is_no_actor() -> None:
    async with ActorSystem() as system:
        echo = await system.start(Echo)
        for relate in (echo.monitor, echo.link):
            with pytest.raises(NotInActor):
                await in_thread(relate)


async def test_actors_are_started_on_their_systems_loop() -> None:
    async with ActorSystem() as system:
        with pytest.raises(UsageError, match="event loop"):
            await in_thread(lambda: asyncio.run(system.start(Echo)))  # type: ignore[arg-type]


async def test_a_full_mailbox_drops_what_a_thread_tells_and_counts_it() -> None:
    async with ActorSystem() as system:
        echo = await system.options(mailbox=Mailbox(2)).start(Echo)
        dead: list[object] = []
        system.on_dead_letter(lambda ref, message: dead.append(message))
        blocked = asyncio.ensure_future(echo.ask("block"))
        while system.info(echo).state != "busy":
            await asyncio.sleep(0)
        await in_thread(lambda: [echo.tell(n) for n in range(5)])
        assert dead == [2, 3, 4]
        assert system.info(echo).dropped == 3
        with pytest.raises(MailboxFull):
            await in_thread(lambda: echo.ask_sync(1))
        echo._cell.actor.gate.set()
        await blocked


def test_after_the_loop_is_closed_everything_is_dead() -> None:
    refs: list[Ref[Any]] = []

    async def main() -> None:
        async with ActorSystem() as system:
            refs.append(await system.start(Echo))

    asyncio.run(main())
    (echo,) = refs
    echo.tell("nobody hears it")
    echo.exit("kill")
    assert not echo.is_alive()
    for ask in (lambda: echo.ask_sync(1), lambda: asyncio.run(echo.ask(1)), lambda: asyncio.run(echo.stop())):
        with pytest.raises(ActorDied):
            ask()
    assert asyncio.run(echo.wait()) == "shutdown"


def test_a_thread_that_waits_when_the_loop_goes_away_is_told() -> None:
    errors: list[BaseException] = []

    async def main() -> threading.Thread:
        system = await ActorSystem().__aenter__()  # never closed: the program's loop just ends
        echo = await system.start(Echo)

        def ask() -> None:
            try:
                echo.ask_sync("block", timeout=None)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        while system.info(echo).state != "busy":
            await asyncio.sleep(0)
        return thread

    thread = asyncio.run(main())
    thread.join(WAIT)
    assert [type(e) for e in errors] == [ActorDied]


async def test_eight_threads_tell_and_ask_while_the_loop_kills_and_restarts() -> None:
    seed = random.randrange(1 << 30)
    report = await Soak(seconds=2.0, seed=seed).run()
    assert report.wrong == [], f"python -m tests.actors.soak_threads --seed {seed}"
    assert report.ended > 20
    assert report.answered > 100
