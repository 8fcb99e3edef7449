"""Facts of Erlang about exit signals and links."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ramure import actors
from ramure.actors import ActorSystem, Exit, Stop, receive, self_ref, trap_exit
from ramure.testing import run_virtual
from tests.actors.facts import _observe, dead, fact, idle, next_message, raises, reason_of


async def signalled(system: ActorSystem, trap: bool, reason: str) -> Any:
    """What becomes of an actor that traps exits or not, and gets an exit signal."""

    async def target() -> None:
        trap_exit(trap)
        message = await receive()
        raise Stop(("got", message.reason) if isinstance(message, Exit) else "survived")

    ref = system.spawn(target)
    await asyncio.sleep(0)
    ref.exit(reason)
    ref.tell("stop")
    return await ref.wait()


SIGNALS: dict[tuple[bool, str], Any] = {
    (False, "normal"): "survived",
    (False, "shutdown"): "shutdown",
    (False, "crash"): "crash",
    (False, "kill"): "killed",
    (True, "normal"): ["got", "normal"],
    (True, "shutdown"): ["got", "shutdown"],
    (True, "crash"): ["got", "crash"],
    (True, "kill"): "killed",
}
"""Whether the process traps exits, and the reason of the signal: what becomes of it."""


@pytest.mark.parametrize(("trap", "reason"), SIGNALS)
def test_signal_to_a_process(trap: bool, reason: str) -> None:
    assert run_virtual(_observe(lambda system: signalled(system, trap, reason))) == SIGNALS[trap, reason]


test_signal_to_a_process.facts = {  # type: ignore[attr-defined]
    f"signal to a process, trap {str(trap).lower()}, reason {reason}": observed
    for (trap, reason), observed in SIGNALS.items()
}


@fact("exit(self(), normal) not trapping", "normal")
async def test_exit_self_normal_not_trapping(system: ActorSystem) -> Any:
    async def body() -> None:
        self_ref().exit("normal")
        await idle()

    return await reason_of(system, body)


@fact("exit(self(), kill) trapping", "killed")
async def test_exit_self_kill_trapping(system: ActorSystem) -> Any:
    async def body() -> None:
        trap_exit()
        self_ref().exit("kill")
        await idle()

    return await reason_of(system, body)


@fact("exit(self(), crash) trapping gives a message", ["EXIT", "pid", "crash"])
async def test_exit_self_crash_trapping_gives_a_message(system: ActorSystem) -> Any:
    trap_exit()
    self_ref().exit("crash")
    return await next_message()


@fact("exit(kill) by the process itself: reason", "kill")
async def test_exit_kill_by_the_process_itself_reason(system: ActorSystem) -> Any:
    async def body() -> None:
        actors.exit("kill")

    return await reason_of(system, body)


@fact("exit(kill) can be caught", ["exit", "kill"])
async def test_exit_kill_can_be_caught(system: ActorSystem) -> Any:
    try:
        actors.exit("kill")
    except Stop as stop:
        return ("exit", stop.reason)


@fact("error(oops): reason", ["oops", "<stack>"])
async def test_error_oops_reason(system: ActorSystem) -> Any:
    async def body() -> None:
        raise RuntimeError("oops")

    return await reason_of(system, body)


@fact("function returns: reason", "normal")
async def test_function_returns_reason(system: ActorSystem) -> Any:
    async def body() -> None:
        return None

    return await reason_of(system, body)


# -- links ----------------------------------------------------------------------------------------------


async def partner(system: ActorSystem, body: Callable[[], Awaitable[None]]) -> Any:
    """A linked actor ends by ``body``: what a plain and a trapping partner get."""

    async def plain() -> None:
        system.spawn_link(body)
        await system.clock.sleep(0.2)
        raise Stop("survived")

    reason = await reason_of(system, plain)
    trap_exit()
    system.spawn_link(body)
    return ("plain", reason, "trapping", await next_message())


@fact("link partner exits normal", ["plain", "survived", "trapping", ["EXIT", "pid", "normal"]])
async def test_link_partner_exits_normal(system: ActorSystem) -> Any:
    async def body() -> None:
        return None

    return await partner(system, body)


@fact("link partner exits crash", ["plain", "crash", "trapping", ["EXIT", "pid", "crash"]])
async def test_link_partner_exits_crash(system: ActorSystem) -> Any:
    async def body() -> None:
        actors.exit("crash")

    return await partner(system, body)


@fact("link partner exits itself with kill", ["plain", "kill", "trapping", ["EXIT", "pid", "kill"]])
async def test_link_partner_exits_itself_with_kill(system: ActorSystem) -> Any:
    async def body() -> None:
        actors.exit("kill")

    return await partner(system, body)


@fact("link partner killed by signal", ["plain", "killed", "trapping", ["EXIT", "pid", "killed"]])
async def test_link_partner_killed_by_signal(system: ActorSystem) -> Any:
    async def body() -> None:
        self_ref().exit("kill")

    return await partner(system, body)


@fact("link to a dead process, trapping", [["returns", True], ["EXIT", "pid", "noproc"]])
async def test_link_to_a_dead_process_trapping(system: ActorSystem) -> Any:
    trap_exit()
    ref = await dead(system)
    tried = raises(lambda: ref.link() is None)
    return (tried, await next_message())


@fact("link to a dead process, not trapping", ["error", "noproc"])
async def test_link_to_a_dead_process_not_trapping(system: ActorSystem) -> Any:
    return raises((await dead(system)).link)


async def crashes_on_go() -> None:
    await receive()
    actors.exit("crash")


@fact("link twice, unlink once, partner crashes", "nothing")
async def test_link_twice_unlink_once_partner_crashes(system: ActorSystem) -> Any:
    ref = system.spawn(crashes_on_go)
    trap_exit()
    ref.link()
    ref.link()
    ref.unlink()
    ref.tell("go")
    return await next_message()


@fact("link twice, partner crashes: messages", [["EXIT", "pid", "crash"], "nothing"])
async def test_link_twice_partner_crashes_messages(system: ActorSystem) -> Any:
    ref = system.spawn(crashes_on_go)
    trap_exit()
    ref.link()
    ref.link()
    ref.tell("go")
    return (await next_message(), await next_message())


@fact("link to self", [["returns", True], ["links", "[]"]])
async def test_link_to_self(system: ActorSystem) -> Any:
    tried = raises(lambda: self_ref().link() is None)
    assert not system.info(self_ref()).links
    return (tried, ("links", "[]"))


@fact("trap_exit turned on after the signal was delivered", "crash")
async def test_trap_exit_turned_on_after_the_signal_was_delivered(system: ActorSystem) -> Any:
    async def crash() -> None:
        actors.exit("crash")

    async def body() -> None:
        system.spawn_link(crash)
        await system.clock.sleep(0.05)
        trap_exit()
        actors.exit("too_late")

    return await reason_of(system, body)
