"""Facts of Erlang about gen_server: starting, asking, timeouts, and the ways to end."""

from __future__ import annotations

from typing import Any

from ramure import actors
from ramure.actors import NO_REPLY, Actor, ActorSystem, Ask, Ignore, Ref, StartIgnored, StartTimeout, Stop, trap_exit
from ramure.actors import self_ref as me
from ramure.errors import ActorDied, NameTaken, StartFailed, StopTimeout
from tests.actors.facts import Server, call, dead, fact, next_message


class Starts(Actor):
    async def init(self, how: str) -> None:
        match how:
            case "stop":
                raise Stop("why")
            case "exit":
                actors.exit("why")
            case "ignore":
                raise Ignore
            case "sleep":
                await self.system.clock.sleep(0.5)


async def start_link(system: ActorSystem, how: str) -> Any:
    trap_exit()
    started: Any = None
    try:
        started = await system.start_link(Starts, how)
    except StartFailed as error:
        started = ("error", error.reason)
    except StartIgnored:
        started = "ignore"
    return (started, await next_message(0.05))


@fact("gen_server start_link, init stop", [["error", "why"], ["EXIT", "pid", "why"]])
async def test_gen_server_start_link_init_stop(system: ActorSystem) -> Any:
    return await start_link(system, "stop")


@fact("gen_server start_link, init ignore", ["ignore", ["EXIT", "pid", "normal"]])
async def test_gen_server_start_link_init_ignore(system: ActorSystem) -> Any:
    return await start_link(system, "ignore")


@fact("gen_server start_link, init exits", [["error", "why"], ["EXIT", "pid", "why"]])
async def test_gen_server_start_link_init_exits(system: ActorSystem) -> Any:
    return await start_link(system, "exit")


@fact("gen_server start, init too slow", ["error", "timeout"])
async def test_gen_server_start_init_too_slow(system: ActorSystem) -> Any:
    try:
        return await system.options(timeout=0.02).start(Starts, "sleep")
    except StartTimeout:
        assert system.actors() == [me()]
        return ("error", "timeout")


@fact("gen_server start, name taken", ["error", ["already_started", "pid"]])
async def test_gen_server_start_name_taken(system: ActorSystem) -> Any:
    await system.options(name="fact_s").start(Server)
    try:
        return await system.options(name="fact_s").start(Server)
    except NameTaken:
        return ("error", ("already_started", "pid"))


async def server(system: ActorSystem, state: Any = "x") -> Ref[Server]:
    return await system.start(Server, state)


# -- ask --------------------------------------------------------------------------------------------------


@fact("call a dead pid", ["exit", ["noproc", "call"]])
async def test_call_a_dead_pid(system: ActorSystem) -> Any:
    return await call(await dead(system), "x")


@fact("call self", "calling_self")
async def test_call_self(system: ActorSystem) -> Any:
    return await (await server(system)).ask("self_call")


@fact("call, server crashes with exit", ["exit", ["crashed", "call"]])
async def test_call_server_crashes_with_exit(system: ActorSystem) -> Any:
    return await call(await server(system), ("stop", "crashed"))


@fact("call, server crashes with error", ["exit", [["oops", "<stack>"], "call"]])
async def test_call_server_crashes_with_error(system: ActorSystem) -> Any:
    return await call(await server(system), "error")


@fact("call, {stop, R, Reply, S}", ["returns", "reply"])
async def test_call_stop_r_reply_s(system: ActorSystem) -> Any:
    return await call(await server(system), ("stop", "bye", "reply"))


@fact("call, {stop, R, S}", ["exit", ["bye", "call"]])
async def test_call_stop_r_s(system: ActorSystem) -> Any:
    return await call(await server(system), ("stop", "bye"))


@fact("call, {stop, normal, S}", ["exit", ["normal", "call"]])
async def test_call_stop_normal_s(system: ActorSystem) -> Any:
    return await call(await server(system), ("stop", "normal"))


@fact("call, reply/2 then noreply", ["returns", "early"])
async def test_call_reply_2_then_noreply(system: ActorSystem) -> Any:
    class Later(Actor):
        def handle_call(self, request: Any, caller: Ask) -> Any:
            caller.reply("early")
            return NO_REPLY

    return await call(await system.start(Later), "x")


@fact("call times out: exit, and no late reply in the mailbox", [["exit", ["timeout", "call"]], "nothing"])
async def test_call_times_out_exit_and_no_late_reply_in_the_mailbox(system: ActorSystem) -> Any:
    called = await call(await server(system), ("sleep", 0.06), 0.01)
    return (called, await next_message(0.2))


@fact("a timed-out call leaves the server running", ["returns", "alive"])
async def test_a_timed_out_call_leaves_the_server_running(system: ActorSystem) -> Any:
    ref = await server(system)
    await call(ref, ("sleep", 0.03), 0.005)
    return await call(ref, ("reply", "alive"))


@fact("cast to a dead pid", "ok")
async def test_cast_to_a_dead_pid(system: ActorSystem) -> Any:
    (await dead(system)).cast("x")
    return "ok"


# -- the callbacks' timeout ---------------------------------------------------------------------------------


@fact("timeout return value, no message", "timed_out")
async def test_timeout_return_value_no_message(system: ActorSystem) -> Any:
    await (await server(system, me())).ask(("timeout", 0.01))
    return await next_message()


@fact("timeout return value cancelled by a message", "nothing")
async def test_timeout_return_value_cancelled_by_a_message(system: ActorSystem) -> Any:
    ref = await server(system, me())
    await ref.ask(("timeout", 0.04))
    ref.tell("x")
    return await next_message(0.15)


# -- endings ------------------------------------------------------------------------------------------------


@fact("non-trapping server: parent shuts it down, terminate not called", [["EXIT", "pid", "shutdown"], "nothing"])
async def test_non_trapping_server_parent_shuts_it_down_terminate_not_called(system: ActorSystem) -> Any:
    trap_exit()
    ref = await system.start_link(Server, me())
    ref.exit("shutdown")
    return (await next_message(), await next_message(0.05))


async def parent_exits(system: ActorSystem, reason: str) -> Any:
    trap_exit()
    ref = await system.start_link(Server, me(), trap=True)
    ref.exit(reason)
    return (await next_message(), await next_message())


@fact("trapping server: EXIT from its parent calls terminate", [["terminate", "why"], ["EXIT", "pid", "why"]])
async def test_trapping_server_exit_from_its_parent_calls_terminate(system: ActorSystem) -> Any:
    return await parent_exits(system, "why")


@fact(
    "trapping server: EXIT normal from its parent also stops it", [["terminate", "normal"], ["EXIT", "pid", "normal"]]
)
async def test_trapping_server_exit_normal_from_its_parent_also_stops_it(system: ActorSystem) -> Any:
    return await parent_exits(system, "normal")


@fact("trapping server: EXIT from another process goes to handle_info", ["info_exit", "why"])
async def test_trapping_server_exit_from_another_process_goes_to_handle_info(system: ActorSystem) -> Any:
    trap_exit()
    ref = await system.start_link(Server, me(), trap=True)

    async def stranger() -> None:
        ref.exit("why")

    system.spawn(stranger)
    return await next_message()


@fact("gen_server:stop default reason", ["ok", ["terminate", "normal"], ["DOWN", "ref", "process", "pid", "normal"]])
async def test_gen_server_stop_default_reason(system: ActorSystem) -> Any:
    ref = await server(system, me())
    ref.monitor()
    await ref.stop()
    return ("ok", await next_message(), await next_message())


@fact("gen_server:stop of a dead pid", ["exit", "noproc"])
async def test_gen_server_stop_of_a_dead_pid(system: ActorSystem) -> Any:
    try:
        return await (await dead(system)).stop()
    except ActorDied as error:
        return ("exit", error.reason)


@fact("gen_server:stop times out", ["exit", "timeout"])
async def test_gen_server_stop_times_out(system: ActorSystem) -> Any:
    ref = await server(system)
    ref.cast(("sleep", 0.2))
    try:
        return await ref.stop(timeout=0.02)
    except StopTimeout:
        return ("exit", "timeout")


async def behind_two_casts(system: ActorSystem, act: Any) -> Any:
    """A trapping server is asleep with two casts in its mailbox when its parent does ``act``."""
    trap_exit()
    ref = await system.start_link(Server, me(), trap=True)
    for message in (("sleep", 0.03), ("note", 1), ("note", 2)):
        ref.cast(message)
    await act(ref)
    return [await next_message() for _ in range(5)]


async def signal(ref: Ref[Any], reason: str) -> None:
    ref.exit(reason)


@fact(
    "gen_server:stop waits behind queued messages",
    {"list": [["note", 1], ["note", 2], ["terminate", "normal"], ["EXIT", "pid", "normal"], "nothing"]},
)
async def test_gen_server_stop_waits_behind_queued_messages(system: ActorSystem) -> Any:
    return await behind_two_casts(system, lambda ref: ref.stop())


@fact(
    "exit(P, shutdown) to a trapping server waits behind queued messages",
    {"list": [["note", 1], ["note", 2], ["terminate", "shutdown"], ["EXIT", "pid", "shutdown"], "nothing"]},
)
async def test_exit_p_shutdown_to_a_trapping_server_waits_behind_queued_messages(system: ActorSystem) -> Any:
    return await behind_two_casts(system, lambda ref: signal(ref, "shutdown"))


@fact(
    "exit(P, kill) to a trapping server does not wait behind queued messages",
    {"list": [["EXIT", "pid", "killed"], "nothing", "nothing", "nothing", "nothing"]},
)
async def test_exit_p_kill_to_a_trapping_server_does_not_wait_behind_queued_messages(system: ActorSystem) -> Any:
    return await behind_two_casts(system, lambda ref: signal(ref, "kill"))
