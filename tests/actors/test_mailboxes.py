"""Mailboxes with limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import actors
from ramure.actors import Actor, ActorSystem, Down, Exit, Mailbox, Ref, Timeout, receive, self_ref
from ramure.actors.observe import inspection
from ramure.errors import MailboxFull, UsageError
from ramure.exits import format_exit
from ramure.testing import virtual_time


class Taker(Actor):
    """Handles a message when it is told to, at first not at all."""

    async def init(self) -> None:
        self.trap_exit = True
        self.gate = asyncio.Semaphore(0)
        self.seen: list[Any] = []

    async def handle_info(self, message: Any) -> None:
        await self.gate.acquire()
        self.seen.append(message)

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self.seen

    def handle_continue(self, value: Any) -> None:
        self.seen.append(value)


async def busy(system: ActorSystem, limit: int, overflow: Any = "fail") -> tuple[Ref[Taker], asyncio.Semaphore]:
    """A taker that is busy with its first message, its mailbox empty."""
    ref = await system.options(mailbox=Mailbox(limit, overflow)).start(Taker)
    gate = (await inspection.get_state(ref))["gate"]
    ref.tell("first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return ref, gate


async def opened(ref: Ref[Taker], gate: asyncio.Semaphore) -> list[Any]:
    for _ in range(50):
        gate.release()
    return (await inspection.get_state(ref))["seen"]


async def test_fail_raises_in_the_sender() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 2)
        ref.tell(1)
        ref.tell(2)
        with pytest.raises(MailboxFull, match="2 messages"):
            ref.tell(3)
        with pytest.raises(MailboxFull):
            await ref.ask("x")
        gate.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ref.tell(4)
        gate.release()
        gate.release()
        gate.release()
        assert await opened(ref, gate) == ["first", 1, 2, 4]


async def test_drop_new() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 2, "drop_new")
        for n in range(5):
            ref.tell(n)
        with pytest.raises(MailboxFull):
            await ref.ask("x")
        for _ in range(3):
            gate.release()
        assert (await inspection.get_state(ref))["seen"] == ["first", 0, 1]
        assert ref._cell.dropped == 4


async def test_drop_old_drops_the_very_oldest_and_tells_its_asker() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 2, "drop_old")
        asking = asyncio.create_task(ref.ask("x"))
        await asyncio.sleep(0)
        for n in range(3):
            ref.tell(n)
        with pytest.raises(MailboxFull):
            await asking
        for _ in range(3):
            gate.release()
        assert (await inspection.get_state(ref))["seen"] == ["first", 1, 2]


async def test_drop_old_goes_by_identity_not_equality() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    async with ActorSystem() as system:
        ref, gate = await busy(system, 2, "drop_old")
        messages = [Equal() for _ in range(4)]
        for message in messages:
            ref.tell(message)
        for _ in range(3):
            gate.release()
        seen = (await inspection.get_state(ref))["seen"]
        assert [id(m) for m in seen[1:]] == [id(m) for m in messages[2:]]


async def test_signals_always_fit() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1)
        ref.tell("full")
        partner, watched = system.spawn(receive), system.spawn(receive)
        ref._cell._as_current(partner.link)
        ref._cell._as_current(watched.monitor)
        partner.exit("bye")
        watched.exit("bye")
        ref._cell.actor.continue_with("at once")
        for _ in range(4):
            gate.release()
        seen = (await inspection.get_state(ref))["seen"]
        assert seen[:3] == ["first", "at once", "full"]
        assert [type(m) for m in seen[3:]] == [Exit, Down]


@virtual_time()
async def test_a_timer_into_a_full_mailbox_is_a_dead_letter() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1)
        letters: list[Any] = []
        system.on_dead_letter(lambda target, message: letters.append((target, message)))
        ref.tell("full")
        system.send_after(1, ref, "late")
        await asyncio.sleep(2)
        assert letters == [(ref, "late")]
        assert await opened(ref, gate) == ["first", "full"]


@virtual_time()
async def test_set_timeout_fires_in_a_full_mailbox_too() -> None:
    class Waits(Taker):
        def handle_call(self, request: Any, caller: Any) -> Any:
            self.set_timeout(1)

        async def handle_info(self, message: Any) -> None:
            self.seen.append(message)

    async with ActorSystem() as system:
        ref = await system.options(mailbox=Mailbox(1)).start(Waits)
        await ref.ask("x")
        await asyncio.sleep(2)
        assert (await inspection.get_state(ref))["seen"] == [Timeout()]


async def test_an_alias_into_a_full_mailbox_stays_on() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1)
        alias = ref._cell.actor.alias(once=True)
        ref.tell("full")
        with pytest.raises(MailboxFull):
            alias.tell("x")
        gate.release()
        gate.release()
        await inspection.get_state(ref)
        alias.tell("y")
        alias.tell("z")
        assert await opened(ref, gate) == ["first", "full", "y"]


async def test_a_registry_key_passes_over_full_mailboxes() -> None:
    async with ActorSystem() as system:
        full, _ = await busy(system, 1)
        full.tell("full")
        free = await system.start(Taker)
        for ref in (full, free):
            system.registry.register("all", ref)
        assert system.registry.tell("all", "x") == 1
        free.exit("kill")
        assert [ref for ref, _ in system.registry.lookup("all")] == [full]


async def test_send_waits_for_room() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1)
        sends = [asyncio.create_task(ref.send(n)) for n in range(4)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert [task.done() for task in sends] == [True, False, False, False]
        for _ in range(5):
            gate.release()
        await asyncio.gather(*sends)
        assert await opened(ref, gate) == ["first", 0, 1, 2, 3]


async def test_room_given_to_a_sender_that_is_cancelled_goes_to_the_next() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1)
        ref.tell("full")
        one, two = asyncio.create_task(ref.send(1)), asyncio.create_task(ref.send(2))
        for _ in range(3):
            await asyncio.sleep(0)
        gate.release()
        while not ref._cell.room or len(ref._cell.room) == 2:
            await asyncio.sleep(0)
        one.cancel()  # it has been told that there is room, and has not run since
        gate.release()
        gate.release()
        await asyncio.wait_for(two, 30)
        assert await opened(ref, gate) == ["first", "full", 2]


async def test_senders_that_wait_for_the_dead_are_let_go() -> None:
    async with ActorSystem() as system:
        ref, _ = await busy(system, 1)
        ref.tell("full")
        sends = [asyncio.create_task(ref.send(n)) for n in range(3)]
        await asyncio.sleep(0)
        ref.exit("kill")
        await asyncio.wait_for(asyncio.gather(*sends), 30)
        assert system.dead_letters == 3


async def test_a_function_has_a_limit_too() -> None:
    async def reads() -> None:
        await receive("go")
        while True:
            (await receive(actors.Ask)).reply(await receive(int))

    async with ActorSystem() as system:
        ref = system.options(mailbox=Mailbox(2)).spawn(reads)
        await asyncio.sleep(0)
        ref.tell(1)
        ref.tell("go")
        with pytest.raises(MailboxFull):
            ref.tell(3)
        await asyncio.sleep(0)
        assert await ref.ask("x") == 1


async def test_a_message_promised_to_a_reader_but_dropped_since() -> None:
    async def reads() -> None:
        raise actors.Stop(await receive(int))

    async with ActorSystem() as system:
        ref = system.options(mailbox=Mailbox(1, "drop_old")).spawn(reads)
        await asyncio.sleep(0)
        ref.tell(1)
        ref.tell("drops it")
        await asyncio.sleep(0)
        ref.tell(2)
        assert await ref.wait() == 2


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "3"])
def test_limits_that_are_none(limit: Any) -> None:
    with pytest.raises(UsageError, match="limit"):
        Mailbox(limit)


def test_overflow_is_one_of_three() -> None:
    with pytest.raises(UsageError, match="overflow"):
        Mailbox(1, "wait")  # type: ignore[arg-type]


# -- what a function has not received stays where it was ------------------------------------------------------


async def test_a_cancelled_receive_loses_nothing_and_keeps_the_order() -> None:
    async def reads() -> None:
        me = self_ref()
        waiting = asyncio.current_task()
        assert waiting is not None
        me.tell(("b", 1))
        asyncio.get_running_loop().call_soon(lambda: (me.tell(("a", 2)), waiting.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await receive(lambda m: m[0] == "a")
        raise actors.Stop([await receive(), await receive()])

    async with ActorSystem() as system:
        assert await system.spawn(reads).wait() == [("b", 1), ("a", 2)]


async def test_receive_goes_by_identity_not_equality() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    first, second = Equal(), Equal()

    async def reads() -> None:
        got = await receive(lambda m: m is second)
        raise actors.Stop([got is second, await receive() is first])

    async with ActorSystem() as system:
        ref = system.spawn(reads)
        await asyncio.sleep(0)
        ref.tell(first)
        ref.tell(second)
        assert await ref.wait() == [True, True]


async def test_a_predicate_that_raises_raises_in_the_reader() -> None:
    def broken(message: Any) -> bool:
        raise ValueError(message)

    async def reads() -> None:
        with pytest.raises(ValueError, match="x"):
            await receive(broken)
        raise actors.Stop(await receive())

    async with ActorSystem() as system:
        ref = system.spawn(reads)
        await asyncio.sleep(0)
        ref.tell("x")
        assert await ref.wait() == "x"


@virtual_time()
async def test_receive_times_out_and_names_what_it_waited_for() -> None:
    async def reads() -> None:
        with pytest.raises(actors.ReceiveTimeout, match=r"<reads #1> received nothing that matches .*int.* within 3 s"):
            await receive(int, timeout=3)
        raise actors.Stop(self_ref()._cell.system.clock.monotonic())

    async with ActorSystem() as system:
        ref = system.spawn(reads)
        await asyncio.sleep(1)
        ref.tell("not it")
        assert await ref.wait() == 3


async def test_two_readers_at_once_are_refused() -> None:
    async def reads() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            group.create_task(receive())

    async with ActorSystem() as system:
        assert "one reader" in format_exit(await system.spawn(reads).wait())


async def test_drop_old_of_the_very_same_object_sent_again() -> None:
    async with ActorSystem() as system:
        ref, gate = await busy(system, 1, "drop_old")
        message = ("the", "same")
        ref.tell(message)
        ref.tell(message)
        assert await opened(ref, gate) == ["first", message]
