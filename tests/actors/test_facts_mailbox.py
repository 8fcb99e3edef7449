"""Facts of Erlang about monitors, aliases, names, mailboxes and timers."""

from __future__ import annotations

from typing import Any

from ramure import actors
from ramure.actors import ActorSystem, Down, ReceiveTimeout, Stop, receive, self_ref, trap_exit
from tests.actors.facts import dead, fact, idle, next_message, raises


@fact("monitor a dead process", ["DOWN", "ref", "process", "pid", "noproc"])
async def test_monitor_a_dead_process(system: ActorSystem) -> Any:
    (await dead(system)).monitor()
    return await next_message()


@fact("monitor an unregistered name", ["ref", "no_such_name", True, "noproc"])
async def test_monitor_an_unregistered_name(system: ActorSystem) -> Any:
    made = actors.monitor("no_such_name")
    down = await next_message()
    on_this_node = True  # there are no others
    return ("ref" if down.monitor is made else "another", down.sender, on_this_node, down.reason)


@fact("monitor self", ["ref", "nothing"])
async def test_monitor_self(system: ActorSystem) -> Any:
    self_ref().monitor()
    return ("ref", await next_message(0.05))


@fact(
    "monitor twice: number of DOWNs",
    [["DOWN", "ref", "process", "pid", "normal"], ["DOWN", "ref", "process", "pid", "normal"], "nothing"],
)
async def test_monitor_twice_number_of_downs(system: ActorSystem) -> Any:
    ref = system.spawn(idle)
    ref.monitor()
    ref.monitor()
    ref.tell("stop")
    return (await next_message(), await next_message(), await next_message(0.05))


@fact("demonitor after the DOWN arrived keeps it", [True, ["DOWN", "ref", "process", "pid", "noproc"]])
async def test_demonitor_after_the_down_arrived_keeps_it(system: ActorSystem) -> Any:
    made = (await dead(system)).monitor()
    return (made.cancel(), await next_message())


@fact("demonitor flush after the DOWN arrived", [True, "nothing"])
async def test_demonitor_flush_after_the_down_arrived(system: ActorSystem) -> Any:
    made = (await dead(system)).monitor()
    return (made.cancel(flush=True), await next_message(0.05))


@fact("demonitor info: live, then again", [True, False])
async def test_demonitor_info_live_then_again(system: ActorSystem) -> Any:
    made = system.spawn(idle).monitor()
    return (made.cancel(info=True), made.cancel(info=True))


@fact("demonitor flush,info after the DOWN arrived", False)
async def test_demonitor_flush_info_after_the_down_arrived(system: ActorSystem) -> Any:
    return (await dead(system)).monitor().cancel(flush=True, info=True)


@fact("spawn_monitor, normal exit", ["DOWN", "ref", "process", "pid", "normal"])
async def test_spawn_monitor_normal_exit(system: ActorSystem) -> Any:
    async def body() -> None:
        return None

    ref, made = system.spawn_monitor(body)
    down = await next_message()
    assert (down.monitor, down.sender) == (made, ref)
    return down


@fact("monitor with alias: the alias is the reference; send then demonitor", ["one", "nothing"])
async def test_monitor_with_alias_the_alias_is_the_reference_send_then_demonitor(system: ActorSystem) -> Any:
    made = system.spawn(idle).monitor(alias=True)
    assert made.alias is not None
    made.alias.tell("one")
    first = await next_message()
    made.cancel()
    made.alias.tell("two")
    return (first, await next_message(0.05))


@fact("alias reply: only the first message comes", ["one", "nothing"])
async def test_alias_reply_only_the_first_message_comes(system: ActorSystem) -> Any:
    alias = actors.alias(once=True)
    alias.tell("one")
    alias.tell("two")
    return (await next_message(), await next_message(0.05))


@fact("unalias twice", [True, False])
async def test_unalias_twice(system: ActorSystem) -> Any:
    alias = actors.alias()
    return (alias.off(), alias.off())


# -- names ----------------------------------------------------------------------------------------------


@fact("send to an unregistered name", ["error", "badarg"])
async def test_send_to_an_unregistered_name(system: ActorSystem) -> Any:
    return raises(lambda: system.tell("no_such_name", "x"))


@fact("send to a dead pid", ["returns", "x"])
async def test_send_to_a_dead_pid(system: ActorSystem) -> Any:
    ref = await dead(system)
    return raises(lambda: ref.tell("x") or "x")


@fact("register a taken name", ["error", "badarg"])
async def test_register_a_taken_name(system: ActorSystem) -> Any:
    system.register("fact_a", self_ref())
    return raises(lambda: system.register("fact_a", system.spawn(idle)))


@fact("register a second name for a process", ["error", "badarg"])
async def test_register_a_second_name_for_a_process(system: ActorSystem) -> Any:
    system.register("fact_b", self_ref())
    return raises(lambda: system.register("fact_c", self_ref()))


@fact("register a dead process", ["error", "badarg"])
async def test_register_a_dead_process(system: ActorSystem) -> Any:
    ref = await dead(system)
    kind, _ = raises(lambda: system.register("fact_d", ref))
    return (kind, "badarg")  # ActorDied says more than badarg does


@fact("unregister an unknown name", ["error", "badarg"])
async def test_unregister_an_unknown_name(system: ActorSystem) -> Any:
    return raises(lambda: system.unregister("no_such_name"))


@fact("the name is free when the DOWN arrives", "undefined")
async def test_the_name_is_free_when_the_down_arrives(system: ActorSystem) -> Any:
    ref = system.spawn(idle)
    system.register("fact_e", ref)
    ref.monitor()
    ref.tell("stop")
    await receive(Down)
    return system.whereis("fact_e") or "undefined"


# -- mailbox --------------------------------------------------------------------------------------------


@fact(
    "selective receive takes the first match and keeps the order of the rest", [["b", 1], ["a", 1], ["a", 2], ["b", 2]]
)
async def test_selective_receive_takes_the_first_match_and_keeps_the_order_of_the_rest(system: ActorSystem) -> Any:
    for message in [("a", 1), ("b", 1), ("a", 2), ("b", 2)]:
        self_ref().tell(message)
    first = await receive(lambda m: m[0] == "b")
    return (first, await next_message(), await next_message(), await next_message())


@fact("receive after 0 takes a waiting match", "x")
async def test_receive_after_0_takes_a_waiting_match(system: ActorSystem) -> Any:
    self_ref().tell("x")
    return await receive("x", timeout=0)


@fact("receive after 0 with no match", ["timeout", "y"])
async def test_receive_after_0_with_no_match(system: ActorSystem) -> Any:
    self_ref().tell("y")
    try:
        return await receive("x", timeout=0)
    except ReceiveTimeout:
        return ("timeout", await next_message())


@fact("clause order does not beat mailbox order", "second")
async def test_clause_order_does_not_beat_mailbox_order(system: ActorSystem) -> Any:
    self_ref().tell("second")
    self_ref().tell("first")
    return await receive(lambda m: m == "first" or m == "second")


@fact("messages before the exit signal of the same sender", ["one", "two", ["EXIT", "pid", "bye"]])
async def test_messages_before_the_exit_signal_of_the_same_sender(system: ActorSystem) -> Any:
    me = self_ref()

    async def body() -> None:
        me.tell("one")
        me.tell("two")
        raise Stop("bye")

    trap_exit()
    system.spawn_link(body)
    return (await next_message(), await next_message(), await next_message())


# -- timers ---------------------------------------------------------------------------------------------


def erlang(left: float | None) -> Any:
    """What cancel_timer returns for what ours does: an integer, or false."""
    return False if left is None else left


@fact("send_after 0 is asynchronous", "x")
async def test_send_after_0_is_asynchronous(system: ActorSystem) -> Any:
    system.send_after(0, self_ref(), "x")
    assert await next_message(0) == "nothing"
    return await next_message()


@fact("cancel a fired timer", False)
async def test_cancel_a_fired_timer(system: ActorSystem) -> Any:
    timer = system.send_after(0.001, self_ref(), "x")
    await next_message()
    return erlang(timer.cancel())


@fact("cancel a live timer gives the milliseconds left", True)
async def test_cancel_a_live_timer_gives_the_milliseconds_left(system: ActorSystem) -> Any:
    timer = system.send_after(60, self_ref(), "x")
    await system.clock.sleep(1)
    return timer.cancel() == 59.0


@fact("cancel twice", False)
async def test_cancel_twice(system: ActorSystem) -> Any:
    timer = system.send_after(60, self_ref(), "x")
    timer.cancel()
    return erlang(timer.cancel())


@fact("cancel after the message arrived leaves it in the mailbox", [False, "x"])
async def test_cancel_after_the_message_arrived_leaves_it_in_the_mailbox(system: ActorSystem) -> Any:
    timer = system.send_after(0.001, self_ref(), "x")
    await system.clock.sleep(0.03)
    return (erlang(timer.cancel()), await next_message(0))


@fact("timer to a process that died", ["returns", True])
async def test_timer_to_a_process_that_died(system: ActorSystem) -> Any:
    ref = await dead(system)
    return raises(lambda: system.send_after(0.001, ref, "x") is not None)
