"""Runs the oracle's scenarios of kind ``sup`` on the real supervisors and actors, through the public API.

``tests/otp_oracle/README.md`` defines scenarios and results; ``oracle_sup.erl`` is the same thing for
Erlang. Timers run in virtual time, which only goes on when nobody has anything to do; what the restart
windows are counted by goes on with ``advance`` alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from typing import Any

from ramure.actors import Actor, ActorSystem, Down, Exit, Ignore, Ref, Stop, exit, receive, self_ref, trap_exit
from ramure.clock import LoopClock
from ramure.errors import ActorDied, StartFailed
from ramure.supervisors import (
    ChildSpec,
    DynamicSupervisor,
    InvalidSpec,
    StartWith,
    Supervisor,
    SupervisorError,
    SupervisorStopping,
)
from ramure.testing import run_virtual
from tests.conformance.scenario import (
    Asked,
    Instance,
    Json,
    Recorder,
    answer_term,
    error_term,
    exit_term,
    generation,
    is_simple,
    reason_of,
    settings_of,
    spec_of,
    term_of,
)

_LONG = 1000.0
"""Virtual seconds in which everything that goes on by itself has come to an end."""


def run(scenario: Json) -> Json:
    """The result of one scenario, in the oracle's format."""
    return run_virtual(_run(scenario), limit=math.inf)


async def _run(scenario: Json) -> Json:
    clock = StillClock()
    async with ActorSystem(clock=clock) as system:
        return {"name": scenario["name"], **await World(scenario, system, clock).run()}


class StillClock(LoopClock):
    """Timers as ever; but what it says changes only when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


# ------------------------------------------------------------------ the actors of a scenario


class Worker(Actor):
    """The modes plain, trap and exit_with; the parent's EXIT comes as ``terminate``."""

    async def init(self, mode: Json) -> None:
        self.trap_exit = mode != "plain"
        self.instead = mode[1] if isinstance(mode, list) else None
        self.own_end = False

    def handle_info(self, message: Any) -> None:
        if not isinstance(message, Exit):
            self.own_end = True
            raise Stop(message)

    def terminate(self, reason: object) -> None:
        if self.instead is not None and not self.own_end:
            raise Stop(reason_of(self.instead))


async def stubborn(ready: asyncio.Future[None]) -> None:
    """Takes no notice of exit signals."""
    trap_exit(True)
    ready.set_result(None)
    while isinstance(message := await receive(), Exit):
        pass
    exit(message)


class Scribe(Actor):
    """Notes starts and ends in the order in which they happen: its mailbox is that order."""

    async def init(self, record: Recorder) -> None:
        self.record = record
        self.instances: dict[Ref[Any], Instance] = {}
        record.scribe = self

    def follow(self, instance: Instance) -> None:
        self.instances[instance.handle] = instance
        self.monitor(instance.handle)

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):
            assert isinstance(message.sender, Ref)
            self.record.ended(self.instances[message.sender], message.reason)
        else:
            self.record.events.append(message)


class Parent(Actor):
    """The root supervisor's parent."""

    async def init(self) -> None:
        self.trap_exit = True

    async def start_root(self, world: World, root: Json) -> Ref[Any] | StartFailed:
        try:
            return await world.start(root, None)
        except StartFailed as error:
            return error

    async def exit_root(self, root: Ref[Any], reason: object) -> None:
        root.exit(reason)

    def handle_info(self, message: Any) -> None:
        assert isinstance(message, Exit)


# ------------------------------------------------------------------ the scenario


class World:
    def __init__(self, scenario: Json, system: ActorSystem, clock: StillClock) -> None:
        self.scenario = scenario
        self.system = system
        self.clock = clock
        self.record = Recorder()
        self.root: Ref[Any] | None = None
        self.asking: set[asyncio.Task[None]] = set()
        for fault in scenario.get("faults", []):
            self.record.add_fault(fault)

    async def run(self) -> Json:
        self.scribe = await self.system.start(Scribe, self.record)
        self.parent = await self.system.start(Parent)
        root = {**self.scenario["root"], "id": "root", "type": "supervisor"}
        started = await self.parent.proxy(timeout=None).start_root(self, root)
        if isinstance(started, StartFailed):
            ret = ["error", term_of(started.reason)]
        else:
            ret, self.root = ["ok", "root#1"], started
        start = await self.result(None, ret)
        steps = []
        for each in self.scenario.get("steps", []):
            if self.root is None or not self.root.is_alive():
                break
            steps.append(await self.result(each["op"], await self.act(each["op"], each)))
        return {"start": start, "steps": steps}

    async def result(self, op: str | None, ret: Json) -> Json:
        await asyncio.sleep(_LONG)
        assert not self.asking
        tree = [] if self.root is None or not self.root.is_alive() else await self.branch(self.root)
        return self.record.result(op, ret, tree)

    async def act(self, op: str, each: Json) -> Json:
        match op:
            case "exit" | "signal":
                return await self.end_or_signal(op, each)
            case "parent_exit":
                assert self.root is not None
                await self.parent.proxy().exit_root(self.root, reason_of(each["reason"]))
                return "ok"
            case "fault":
                self.record.add_fault(each)
                return "ok"
            case "advance":
                self.clock.now += each["seconds"]
                return "ok"
        instance = self.record.live(each.get("sup", "root"))
        if instance is None:
            return "not_running"
        if not instance.is_supervisor:
            return "not_a_supervisor"
        if op == "msg":
            instance.handle.tell(("unexpected", "message"))
        elif op == "foreign_exit":
            self.system.spawn(_stranger, instance.handle, reason_of(each["reason"]))
        else:
            asked = Asked(op)
            await self.ask(instance, each, asked)
            return asked.ret
        return "ok"

    async def end_or_signal(self, op: str, each: Json) -> Json:
        instance = self.record.live(each["child"])
        if instance is None:
            return "not_running"
        ref, reason = instance.handle, reason_of(each["reason"])
        if op == "signal":
            ref.exit(reason)
        elif instance.is_supervisor:
            await ref.stop(reason)
        else:
            ref.tell(reason)
        return "ok"

    # -------------------------------------------------------------- starting

    async def start(self, child: Json, owner: Json, *args: Json) -> Ref[Any]:
        """What the child specifications start; runs in the supervisor."""
        id = child["id"]
        fault = self.record.take_fault(id)
        if fault is not None:
            await self.fail(id, fault, owner)
        try:
            ref = await self.start_process(child)
        except StartFailed as error:
            self.scribe.tell(["start_failed", id, term_of(error.reason)])
            raise
        instance = self.record.register(child, owner, ref)
        self.record.scribe.follow(instance)
        self.scribe.tell(["start", instance.name, list(args)] if args else ["start", instance.name])
        return ref

    async def start_process(self, child: Json) -> Ref[Any]:
        start_link = self.system.start_link
        mode = child.get("mode", "plain")
        if child.get("type") != "supervisor":
            if mode != "stubborn":
                return await start_link(Worker, mode)
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ref = self.system.spawn_link(stubborn, ready)
            await ready
            return ref
        specs = [self.spec(each, child) for each in child.get("children", [])]
        if is_simple(child):
            return await start_link(DynamicSupervisor, specs[0], **settings_of(child, "strategy"))
        return await start_link(Supervisor, specs, **settings_of(child))

    def spec(self, child: Json, owner: Json) -> ChildSpec:
        return spec_of(child, StartWith(self.start), (child, owner))

    async def fail(self, id: str, fault: Json, owner: Json) -> None:
        """Fail a start, after the calls that it makes ``during`` it are in the supervisor's mailbox."""
        during = fault.get("during", [])
        if during:
            supervisor = Instance(owner["id"], 0, owner, None, self_ref())
            for call in during:
                asked = Asked(call["op"])
                self.record.asked.append(asked)
                # A context of its own: these calls are a stranger's, not the supervisor's own.
                task = asyncio.get_running_loop().create_task(
                    self.ask(supervisor, call, asked), context=contextvars.Context()
                )
                self.asking.add(task)
                task.add_done_callback(self.asking.discard)
            await asyncio.sleep(0)
        how = fault.get("how", "error")
        if how == "ignore":
            self.scribe.tell(["start_ignored", id])
            raise Ignore
        reason = reason_of(fault.get("reason", "boom"))
        self.scribe.tell(["start_failed", id, term_of(reason)])
        raise Stop(("EXIT", reason) if how == "exit" else reason)

    # -------------------------------------------------------------- calls

    async def ask(self, supervisor: Instance, each: Json, asked: Asked) -> None:
        ref = supervisor.handle
        try:
            asked.ret = answer_term(asked.op, await self.call(supervisor, each), self.name)
        except SupervisorStopping:
            asked.ret = exit_term(await ref.wait())
        except ActorDied as error:
            asked.ret = exit_term(error.reason)
        except (SupervisorError, InvalidSpec) as error:
            started = asked.op == "start_child" and not is_simple(supervisor.child)
            asked.ret = error_term(error, self.name, started=started)

    async def call(self, supervisor: Instance, each: Json) -> Any:
        proxy = supervisor.handle.proxy(timeout=None)
        match each["op"]:
            case "which_children" | "count_children":
                return await getattr(proxy, each["op"])()
            case "start_child" if "spec" in each:
                return await proxy.start_child(self.spec(each["spec"], supervisor.child))
            case "start_child":
                return await proxy.start_child(*each.get("args", []))
            case op:
                named = self.record.named(each["child"])
                return await getattr(proxy, op)(named.handle if named else each["child"])

    def name(self, ref: Ref[Any]) -> str:
        return self.record.scribe.instances[ref].name

    # -------------------------------------------------------------- the tree

    async def branch(self, ref: Ref[Any]) -> Json:
        infos = await ref.proxy().which_children()
        rows = [[info.id or "undefined", "undefined" if info.ref is None else self.name(info.ref)] for info in infos]
        if is_simple(self.record.scribe.instances[ref].child):
            rows.sort(key=lambda row: generation(row[1]))
        below = [await self.branch(info.ref) for info in infos if info.type == "supervisor" and info.ref is not None]
        return [[self.name(ref), rows], *(row for each in below for row in each)]


async def _stranger(supervisor: Ref[Any], reason: object) -> None:
    supervisor.link()
    exit(reason)
