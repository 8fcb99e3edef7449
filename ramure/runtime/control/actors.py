"""The control socket's methods about single actors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.actors import Call, Ref
from ramure.actors.messages import Ask, StopRequest
from ramure.actors.observe import inspection
from ramure.actors.observe.addresses import NoSuchActor, find, find_one, label_of, near_labels, path_of, selector
from ramure.actors.observe.sampling import Sampler
from ramure.actors.observe.tracing import TraceEvent
from ramure.agents.agent import AgentActor
from ramure.errors import UsageError
from ramure.executor import in_thread
from ramure.exits import KILL, KILLED, format_exit
from ramure.runtime.control.answers import ByHand, Killed, Restarted, Resumed, TopView, TreeView, as_plain
from ramure.runtime.control.methods import Dropped, Feed, method, stream
from ramure.runtime.control.top import TopWatch
from ramure.runtime.log.writer import GATHER
from ramure.runtime.views.actor_data import ActorDetails, TraceRecord
from ramure.runtime.views.actor_views import actor_details, actor_rows, place_of, trace_record
from ramure.runtime.views.story import Story
from ramure.runtime.views.story_log import read_story
from ramure.supervisors.inspection import child_views

if TYPE_CHECKING:
    from ramure.actors.observe.tracing import Kind
    from ramure.runtime.run.run import Run

__all__ = ["ActorMethods"]

TRACE_KEPT: Final = 50_000
"""Events of a trace that wait to be sent; what comes then is counted as dropped."""

TOGETHER: Final = 100
"""Events of a trace that are sent in one item, at most."""

PATIENCE: Final = 5.0
"""Seconds for which an actor's end, or its turn, is waited for."""

TraceKind = Literal["messages", "signals", "calls"]


class ActorMethods:
    """What can be asked about the actors of a run, and done to them. ``actor`` is any address that
    :func:`ramure.actors.observe.addresses.find` takes."""

    def __init__(self, run: Run) -> None:
        self._run = run

    # -- looking --------------------------------------------------------------------------------------------------

    @method
    def tree(self) -> TreeView:
        """Every actor, each followed by those below it."""
        rows = actor_rows(self._run.system)
        return {"execution_id": self._run.execution_id, "at": self._now(), "actors": [as_plain(row) for row in rows]}

    @method
    def actor_names(self) -> list[str]:
        """What actors are called, for the completion of a shell."""
        return sorted({label_of(ref) for ref in self._run.system.actors()})

    @method
    async def inspect(self, actor: str, record: bool | None = None, patience: float = 0.5) -> ActorDetails:
        """One actor. ``record`` switches the recording of its last messages and its statistics on or off;
        ``patience`` is how many seconds its own state is waited for."""
        ref = find_one(self._run.system, actor)
        if record is not None:
            inspection.record(ref, record)
        made = self._run.agents.get(label_of(ref))
        events = made.stream if made is not None and made.ref is ref else None
        return as_plain(await actor_details(self._run.system, ref, patience=min(patience, PATIENCE), stream=events))

    @stream
    async def trace(
        self, actor: str, show: list[TraceKind] | None = None, limit: int | None = None
    ) -> AsyncIterator[list[TraceRecord] | Dropped]:
        """What happens to the actors that fit, and to those that take their places, from now on: lists of events.

        ``show``: ``messages`` as they arrive, ``calls``: requests and their answers, ``signals``: exit signals, starts and
        ends; all, if not given. It ends after ``limit`` events; off again whatever ends it.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"trace(limit={limit}): give 1 or more, or none for no limit")
        system = self._run.system
        wanted = frozenset(show or ("messages", "signals", "calls"))
        feed: Feed[TraceEvent] = Feed(TRACE_KEPT)
        left = limit if limit is not None else -1
        fits = selector(system, actor)
        with system.trace(fits, kinds=_kinds(wanted), callback=lambda event: _put(feed, event, wanted)):
            yield []  # it is on: whoever waits for that can go on
            together: list[TraceRecord] = []
            async for event in feed:
                if isinstance(event, Dropped):
                    if together:
                        yield together
                        together = []
                    yield event
                    continue
                together.append(as_plain(trace_record(system, event)))
                left -= 1
                if left == 0 or len(together) >= TOGETHER or not feed.waiting:
                    yield together
                    together = []
                if left == 0:
                    return

    @stream
    async def top(self, every: float = 1.0, most: int = 20) -> AsyncIterator[TopView]:
        """Every so many seconds: the busiest actors, the longest mailboxes, the agents that use most tokens."""
        most = max(1, min(most, 1000))
        view = TopWatch(self._run, most)
        async with Sampler(self._run.system, most) as sampler:
            await asyncio.sleep(0.25)
            sampler.take()  # from now on the busiest are metered
            while True:
                await asyncio.sleep(max(0.1, min(every, 60.0)))
                yield view.fields(sampler.take())

    @method
    async def why(self, actor: str) -> Story:
        """The story of the deaths and restarts of an agent or an actor, from the logs."""
        system = self._run.system
        found = find(system, actor)
        subject = actor if len(found) != 1 or not actor.lstrip("#").isdecimal() else path_of(found[0])
        await asyncio.sleep(2 * GATHER)  # what was logged just now is in the file then
        story, near = await in_thread(read_story, self._run.paths.logs, subject)
        if near and not found and not self._is_process(actor):
            live = near_labels(system, actor)
            raise NoSuchActor(actor, list(dict.fromkeys((*live, *near)))[:3])
        if (alarms := self._run.alarms) is not None and alarms.standing:  # the logs may have no room for them
            held = f"{subject} is held up by a full disk: {'; '.join(map(str, alarms.standing.values()))}"
            story = replace(story, headline=held)
        return as_plain(story)

    def _is_process(self, name: str) -> bool:
        """True for the name of processes, without a number: the logs tell of all of that name together."""
        return any(record.name == name for record in self._run.processes.values())

    # -- acting ---------------------------------------------------------------------------------------------------

    @method
    async def kill(self, actor: str, reason: str | None = None) -> Killed:
        """End an actor at once, as Erlang's ``exit(Pid, kill)``: it cannot refuse. ``shutdown`` and ``normal`` let it
        end in order; any other ``reason`` is what it ends with."""
        ref = find_one(self._run.system, actor)
        told, then = self._by_hand("kill", ref, reason), _then(ref, reason if reason is not None else KILLED)
        if self._is_ours(ref):  # this very answer would not come
            asyncio.get_running_loop().call_later(0.2, _end, ref, reason)
            return {**told, "ended": False, "reason": None, "then": then}
        _end(ref, reason)
        ended = await _ended(ref)
        return {**told, "ended": ended, "reason": format_exit(ref._cell.reason) if ended else None, "then": then}

    @method
    async def suspend(self, actor: str) -> ByHand:
        """Have an actor handle no messages until it is resumed; they wait."""
        ref = find_one(self._run.system, actor)
        await inspection.suspend(ref, timeout=PATIENCE)
        return self._by_hand("suspend", ref, None)

    @method
    async def resume_actor(self, actor: str) -> Resumed:
        """Undo :meth:`suspend`."""
        ref = find_one(self._run.system, actor)
        was = ref._cell.state == "suspended"
        await inspection.resume(ref, timeout=PATIENCE)
        return {**self._by_hand("resume", ref, None), "was_suspended": was}

    @method
    async def restart(self, actor: str) -> Restarted:
        """Have an actor's supervisor stop it and start it again; of an agent, its pi, with its conversation. Not
        counted in the restart intensity."""
        named = find_one(self._run.system, actor)
        ref = _session_of(named)
        place = place_of(ref)
        if place is None:
            raise UsageError(f"{ref.label} has no supervisor that could start it again; `ramure kill` ends it")
        supervisor, child = place
        if supervisor is self._run.root:
            raise UsageError(f"{ref.label} is a part of the run itself, which ends with it; `ramure stop` ends the run")
        told = self._by_hand("restart", named, None)
        await supervisor.ask(Call("renew_child", (ref,)), timeout=60.0)
        new = await _successor(supervisor, ref, child.key)
        return {**told, "old": ref.id, "new": new.id if new is not None else None}

    def _by_hand(self, command: str, ref: Ref[Any], reason: str | None) -> ByHand:
        """Note what somebody does, for ``why``."""
        told: ByHand = {"actor": label_of(ref), "path": path_of(ref), "id": ref.id}
        self._run.log("operator", {"command": command, **told, "reason": reason})
        return told

    def _is_ours(self, ref: Ref[Any]) -> bool:
        """True for an actor whose end is that of this socket."""
        return ref is self._run.root or ref._cell.parent is self._run.root._cell

    def _now(self) -> float:
        return self._run.system.clock.wall()


def _kinds(wanted: frozenset[str]) -> set[Kind]:
    kinds: set[Kind] = set()
    if wanted & {"messages", "calls"}:
        kinds.add("sent")
    if "calls" in wanted:
        kinds.add("replied")
    if "signals" in wanted:
        kinds |= {"started", "signal", "ended"}
    return kinds


def _put(feed: Feed[TraceEvent], event: TraceEvent, wanted: frozenset[str]) -> None:
    """Keep it, unless it is a message of a sort that is not wanted."""
    if event.kind == "sent" and ("calls" if type(event.value) is Ask else "messages") not in wanted:
        return
    feed.put(event)


def _then(ref: Ref[Any], reason: object) -> str:
    """What follows from an actor's end, as far as its supervisor's specification says."""
    place = place_of(ref)
    if place is None:
        return "it has no supervisor"
    supervisor, child = place
    if child.spec.restarts_after(reason):
        return f"{label_of(supervisor)} starts it again"
    return f"{label_of(supervisor)} does not start it again: it is {child.spec.restart}"


def _end(ref: Ref[Any], reason: str | None) -> None:
    if reason in ("shutdown", "normal"):
        ref._cell.deliver(StopRequest(reason))
    elif reason is None or reason in (KILL, KILLED):
        ref.exit(KILL)
    else:
        ref._cell.die(reason)


async def _ended(ref: Ref[Any]) -> bool:
    """Wait a while for its end."""
    try:
        async with asyncio.timeout(PATIENCE):
            await ref.wait()
    except TimeoutError:
        return False
    return True


def _session_of(ref: Ref[Any]) -> Ref[Any]:
    """Of an agent its session, which is what is restarted; any other actor itself."""
    agent = getattr(ref._cell, "actor", None)
    if not isinstance(agent, AgentActor):
        return ref
    if agent.session is None:
        raise UsageError(f"{ref.label} has not been started yet: there is nothing to restart")
    return agent.session


async def _successor(supervisor: Ref[Any], old: Ref[Any], key: object) -> Ref[Any] | None:
    """The actor that has come into the place, if it does so within a while."""
    try:
        async with asyncio.timeout(PATIENCE):
            while supervisor.is_alive():
                for child in child_views(supervisor):
                    if child.key == key and child.status == "running" and child.ref is not old:
                        return child.ref
                await asyncio.sleep(0.02)  # the supervisor tells of a start those who subscribe with a mailbox
    except TimeoutError:
        pass  # its start takes long: whoever asked is told that it is under way
    return None
