"""Facts of Erlang about sys: looking into a server, and holding it still."""

from __future__ import annotations

from typing import Any

from ramure.actors import ActorSystem, trap_exit
from ramure.actors import self_ref as me
from ramure.actors.observe import inspection
from ramure.errors import ActorDied
from tests.actors.facts import Server, call, dead, fact, next_message


async def state(ref: Any) -> Any:
    return (await inspection.get_state(ref))["state"]


@fact("sys:get_state", "hello")
async def test_sys_get_state(system: ActorSystem) -> Any:
    return await state(await system.start(Server, "hello"))


@fact("sys:get_state of a dead pid", ["exit", "noproc"])
async def test_sys_get_state_of_a_dead_pid(system: ActorSystem) -> Any:
    try:
        return await state(await dead(system))
    except ActorDied as error:
        return ("exit", error.reason)


@fact("sys:get_state waits behind queued messages", 1)
async def test_sys_get_state_waits_behind_queued_messages(system: ActorSystem) -> Any:
    ref = await system.start(Server, 0)
    ref.cast(("sleep", 0.03))
    ref.cast(("set", 1))
    return await state(ref)


@fact("sys:replace_state", [2, 2])
async def test_sys_replace_state(system: ActorSystem) -> Any:
    ref = await system.start(Server, 1)
    replaced = await inspection.replace_state(ref, lambda attributes: {**attributes, "state": attributes["state"] + 1})
    return (replaced["state"], await state(ref))


@fact("sys:replace_state with a crashing function keeps the state", ["error", 1])
async def test_sys_replace_state_with_a_crashing_function_keeps_the_state(system: ActorSystem) -> Any:
    ref = await system.start(Server, 1)
    try:
        return await inspection.replace_state(ref, lambda attributes: {"state": 1 / 0})
    except ZeroDivisionError:
        return ("error", await state(ref))


@fact(
    "suspended server: call times out, and is served after resume",
    [["exit", ["timeout", "call"]], "nothing", ["terminate", "normal"], ["DOWN", "ref", "process", "pid", "normal"]],
)
async def test_suspended_server_call_times_out_and_is_served_after_resume(system: ActorSystem) -> Any:
    ref = await system.start(Server, me())
    await inspection.suspend(ref)
    called = await call(ref, ("reply", "x"), 0.02)
    ref.cast(("stop", "normal"))
    ref.monitor()
    quiet = await next_message(0.03)
    await inspection.resume(ref)
    return (called, quiet, await next_message(), await next_message())


@fact("suspended server still answers sys:get_state", "hello")
async def test_suspended_server_still_answers_sys_get_state(system: ActorSystem) -> Any:
    ref = await system.start(Server, "hello")
    await inspection.suspend(ref)
    return await state(ref)


@fact("suspend twice, resume twice", ["ok", "ok", "ok", "ok"])
async def test_suspend_twice_resume_twice(system: ActorSystem) -> Any:
    ref = await system.start(Server)
    for change in (inspection.suspend, inspection.suspend, inspection.resume, inspection.resume):
        await change(ref)
    return ("ok",) * 4


@fact("suspended trapping server: parent EXIT stops it", [["terminate", "shutdown"], ["EXIT", "pid", "shutdown"]])
async def test_suspended_trapping_server_parent_exit_stops_it(system: ActorSystem) -> Any:
    trap_exit()
    ref = await system.start_link(Server, me(), trap=True)
    await inspection.suspend(ref)
    ref.exit("shutdown")
    return (await next_message(), await next_message())


@fact(
    "suspended server: gen_server:stop ends it, before what is queued",
    ["ok", ["terminate", "normal"], ["DOWN", "ref", "process", "pid", "normal"], "nothing"],
)
async def test_suspended_server_gen_server_stop_ends_it_before_what_is_queued(system: ActorSystem) -> Any:
    ref = await system.start(Server, me())
    await inspection.suspend(ref)
    ref.cast(("note", 1))
    ref.monitor()
    await ref.stop()
    return ("ok", await next_message(), await next_message(), await next_message(0.05))
