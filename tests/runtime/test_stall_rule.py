"""The pure rule of stalls: every line of its table, and an independent reference on random snapshots."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from ramure.runtime.stalls.rule import AgentView, ProcessView, Snapshot, WaitView, deciders, stalled
from tests.scale import examples, long_in_a_soak
from tests.stalls import reference, snapshots

WAIT = (WaitView("wait"),)
RECEIVE = (WaitView("receive"),)
QUIET = ProcessView(1, None, WAIT)
IDLE = AgentView("w", 1, tools_of=frozenset({1}))


def of(*processes: ProcessView, agents: tuple[AgentView, ...] = (), **more: tuple[str, ...]) -> set[int]:
    return set(stalled(Snapshot(processes, agents, **more)))


@pytest.mark.parametrize("kind", ["wait", "events", "agent_events", "receive", "each"])
def test_a_process_that_waits_with_nothing_that_could_decide_it_is_stalled(kind: str) -> None:
    assert of(replace(QUIET, waits=(WaitView(kind),)), agents=(IDLE,)) == {1}  # type: ignore[arg-type]


def test_a_process_that_awaits_another_s_end_is_not_accused_itself() -> None:
    assert of(replace(QUIET, waits=(WaitView("handle", 2),))) == set()


def test_a_tree_of_each_decides_its_parent_unless_it_waits_for_its_next_item_itself() -> None:
    working = replace(QUIET, waits=(WaitView("each", 2),))
    tree = ProcessView(2, 1, ())
    assert of(working, tree) == set()
    assert of(working, replace(tree, idle=True)) == {1}
    assert of(replace(working, wakers=("task items of each#2",)), replace(tree, idle=True)) == set()


def test_a_process_outside_our_waits_is_not_stalled() -> None:
    assert of(replace(QUIET, waits=None)) == set()
    assert of(replace(QUIET, waits=())) == set()


OWN = {
    "a task, timer or thread": replace(QUIET, wakers=("task t",)),
    "an endpoint": replace(QUIET, endpoints=("add",)),
    "an outcome on its way": replace(QUIET, deciding=True),
}


@pytest.mark.parametrize("what", OWN)
def test_what_a_process_has_of_its_own_decides_it(what: str) -> None:
    assert of(OWN[what], agents=(IDLE,)) == set()
    assert of(replace(OWN[what], waits=RECEIVE), agents=(IDLE,)) == set()


AGENTS = {
    "at work, restarting or waiting for its model": replace(IDLE, idle=False),
    "with a message, question or call under way": replace(IDLE, outstanding=True),
    "with a person": replace(IDLE, person=True),
}


@pytest.mark.parametrize("what", AGENTS)
def test_an_agent_that_is_not_itself_idle_decides(what: str) -> None:
    agent = AGENTS[what]
    assert of(QUIET, agents=(agent,)) == set()
    assert of(QUIET, agents=(replace(agent, tools_of=frozenset()),)) == set()  # it owns it
    elsewhere = replace(agent, owner=2)
    other = ProcessView(2, None, WAIT)
    assert of(QUIET, other, agents=(elsewhere,)) == set()  # it has a tool of it
    none = replace(elsewhere, tools_of=frozenset())
    assert of(QUIET, other, agents=(none,)) == {1}
    connected = replace(none, reaches=frozenset({"w"}))
    connected = replace(connected, address="x")
    assert of(QUIET, other, agents=(connected, IDLE)) == set()
    assert of(QUIET, other, agents=(replace(connected, reaches=frozenset()), IDLE)) == {1}


def test_an_agent_is_set_to_work_by_one_that_is_reached_through_others() -> None:
    far = AgentView("far", 2, idle=False, reaches=frozenset({"middle"}))
    middle = AgentView("middle", 2, reaches=frozenset({"w"}))
    other = ProcessView(2, None, WAIT)
    assert of(QUIET, other, agents=(far, middle, IDLE)) == set()
    assert of(QUIET, other, agents=(far, replace(middle, reaches=frozenset()), IDLE)) == {1}
    backwards = replace(IDLE, reaches=frozenset({"middle"}))
    assert of(QUIET, other, agents=(far, replace(middle, reaches=frozenset()), backwards)) == {1}


def test_a_child_under_way_decides_and_it_is_the_child_that_is_stalled() -> None:
    child = ProcessView(2, 1, WAIT)
    assert of(QUIET, child) == {2}
    assert of(replace(QUIET, waits=(WaitView("events", 2),)), replace(child, ends=False)) == {2}


def test_another_process_outside_our_waits_decides() -> None:
    assert of(QUIET, ProcessView(2, None, None)) == set()
    assert of(QUIET, ProcessView(2, None, (WaitView("handle", 1),))) == {1}


def test_what_another_process_has_does_not_decide_one_in_wait() -> None:
    busy = ProcessView(2, None, WAIT, wakers=("task t",), endpoints=("e",))
    assert of(QUIET, busy, agents=(AgentView("x", 2, idle=False),)) == {1}


def test_a_receiver_is_decided_by_any_process_that_may_act() -> None:
    receiver = replace(QUIET, waits=RECEIVE)
    other = ProcessView(2, None, WAIT, wakers=("task t",))
    assert of(receiver, other) == set()
    assert of(receiver, replace(other, wakers=())) == {2}  # whose end may decide it
    assert of(receiver, replace(other, wakers=(), ends=False)) == {1, 2}
    assert of(receiver, replace(other, wakers=(), endpoints=("e",))) == set()
    assert of(receiver, ProcessView(2, None, (WaitView("handle", 3),)), ProcessView(3, 2, WAIT, wakers=("t",))) == set()
    assert of(receiver, strangers=("thread t",)) == set()
    assert of(QUIET, strangers=("thread t",)) == {1}


def test_two_receivers_that_wait_for_each_other_are_both_stalled() -> None:
    assert of(replace(QUIET, waits=RECEIVE), ProcessView(2, None, RECEIVE)) == {1, 2}


def test_the_end_of_a_stalled_process_may_decide_a_receiver_so_that_it_is_accused_alone() -> None:
    main = ProcessView(1, None, (WaitView("handle", 3),))
    server, worker = ProcessView(2, 1, RECEIVE), ProcessView(3, 1, WAIT)
    assert of(main, server, worker) == {3}
    assert of(main, server, replace(worker, ends=False)) == {2, 3}


def test_an_agent_that_nobody_has_sent_anything_may_be_sent_its_first_message_by_any_process_that_may_act() -> None:
    fresh = replace(IDLE, prompted=False)
    other = ProcessView(2, None, WAIT, wakers=("task t",))
    assert of(QUIET, other, agents=(fresh,)) == set()
    assert of(QUIET, other, agents=(fresh, replace(IDLE, address="v"))) == {1}
    assert of(QUIET, agents=(fresh,)) == {1}


def test_the_source_of_events_decides_while_it_may_act() -> None:
    reader = replace(QUIET, waits=(WaitView("events", 2),))
    source = ProcessView(2, None, WAIT, wakers=("task t",))
    assert of(reader, source) == set()
    assert of(reader, replace(source, wakers=())) == {2}  # its end is an event
    assert of(reader, replace(source, wakers=(), ends=False)) == {1, 2}
    assert of(reader, ProcessView(2, None, (WaitView("events", 1),))) == {1, 2}
    aside = replace(QUIET, beside=(WaitView("events", 2),))
    assert of(aside, source) == set()


def test_the_source_of_events_may_act_through_what_it_reads_or_receives() -> None:
    reader, busy = replace(QUIET, waits=(WaitView("events", 2),)), ProcessView(3, None, WAIT, wakers=("task t",))
    assert of(reader, ProcessView(2, None, (WaitView("events", 3),)), busy) == set()
    assert of(reader, ProcessView(2, None, RECEIVE), busy) == set()
    assert of(reader, ProcessView(2, None, RECEIVE), strangers=("thread t",)) == set()


def test_the_source_of_events_that_waits_for_no_message_does_not_act_because_others_do() -> None:
    reader, source = replace(QUIET, waits=(WaitView("events", 2),)), ProcessView(2, None, WAIT, ends=False)
    serves = ProcessView(3, None, WAIT, endpoints=("e",))
    assert of(reader, source, serves) == {1, 2}
    assert of(reader, replace(source, waits=RECEIVE), serves) == set()


def test_a_process_that_reads_its_own_events_depends_on_nobody() -> None:
    own = ProcessView(2, None, (WaitView("events", 2),))
    assert of(replace(QUIET, waits=RECEIVE), own) == {2}  # whose end may decide the other


def test_an_agent_whose_events_are_read_decides_while_it_works() -> None:
    reader = replace(QUIET, waits=(WaitView("agent_events", "x"),))
    other = ProcessView(2, None, WAIT)
    assert of(reader, other, agents=(AgentView("x", 2, idle=False),)) == set()
    assert of(reader, other, agents=(AgentView("x", 2),)) == {1, 2}


def test_what_belongs_to_no_process_decides() -> None:
    assert of(QUIET, outside=("task web",)) == set()


def test_the_pool_and_the_monitor_of_the_design_are_never_accused() -> None:
    main = ProcessView(1, None, (WaitView("events", 2),))
    pool = ProcessView(2, 1, WAIT, endpoints=("add_task",))
    monitor = AgentView("monitor", 1, tools_of=frozenset({1}))
    assert of(main, pool, agents=(monitor,)) == set()
    worker = ProcessView(3, 2, WAIT)
    working = AgentView("worker", 3, idle=False, tools_of=frozenset({3}))
    assert of(main, pool, worker, agents=(monitor, working)) == set()
    # And a worker of it that stops short is, whatever the pool and the monitor do.
    assert of(main, pool, worker, agents=(monitor, replace(working, idle=True))) == {3}
    assert of(main, pool, worker, agents=(replace(monitor, idle=False), replace(working, idle=True))) == {3}


def test_it_says_what_can_decide() -> None:
    assert deciders(Snapshot((QUIET, ProcessView(2, 1, WAIT)), (replace(IDLE, idle=False),)), 1) == [
        "agent w",
        "child 2",
    ]
    assert deciders(Snapshot((QUIET,), (IDLE,)), 1) == []


@long_in_a_soak
@settings(max_examples=examples(5_000), suppress_health_check=list(HealthCheck))
@given(snapshots())
def test_the_rule_says_what_an_independent_reference_says(snapshot: Snapshot) -> None:
    assert set(stalled(snapshot)) == reference(snapshot)
