"""Runs ``sup`` scenarios on the pure core alone, with simulated workers: no actors, no event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any

from ramure.exits import KILL, KILLED, NORMAL
from ramure.supervisors import messages as m
from ramure.supervisors.core import step
from ramure.supervisors.errors import InvalidSpec, SupervisorStopping
from ramure.supervisors.state import State, new
from tests.conformance.scenario import (
    Asked,
    Instance,
    Json,
    Recorder,
    answer_term,
    error_term,
    exit_term,
    flags_of,
    generation,
    reason_of,
    spec_of,
    term_of,
)

_ROOT = {"id": "root", "type": "supervisor"}


def run(scenario: Json) -> Json:
    """The result of one scenario, in the oracle's format."""
    return {"name": scenario["name"], **World(scenario).run()}


class Start:
    """What a specification starts: a child of the scenario, with the arguments of start_child."""

    def __init__(self, child: Json, args: Json = None) -> None:
        self.child = child
        self.args = args

    def __call__(self) -> None:
        raise AssertionError("the pure interpreter starts nothing itself")


class Sup:
    """A simulated supervisor process: the core's state and a mailbox."""

    def __init__(self, child: Json, state: State, parent: Sup | None) -> None:
        self.child = child
        self.state = state
        self.parent = parent
        self.inbox: deque[m.Event] = deque()
        self.timers: dict[m.Timer, None] = {}
        self.calls: dict[Hashable, Asked] = {}
        self.workers: dict[Instance, tuple[Hashable, int]] = {}
        self.instance: Instance | None = None
        self.active = False
        self.ready = False
        self.outcome: Any = None
        self.ended = False


class World:
    def __init__(self, scenario: Json) -> None:
        self.scenario = scenario
        self.record = Recorder()
        self.now = 0.0
        self.steps = 0
        self.calls = 0
        self.root: Sup | None = None
        for fault in scenario.get("faults", []):
            self.record.add_fault(fault)

    # -------------------------------------------------------------- the scenario

    def run(self) -> Json:
        started = self.start({**self.scenario["root"], **_ROOT}, None, None)
        ret = ["ok", started.name] if isinstance(started, Instance) else ["error", term_of(started)]
        self.root = started.handle if isinstance(started, Instance) else None
        start = self.record.result(None, ret, self.tree())
        steps = []
        for each in self.scenario.get("steps", []):
            if self.root is None or self.root.ended:
                break
            ret = self.act(each["op"], each)
            steps.append(self.record.result(each["op"], ret, self.tree()))
        return {"start": start, "steps": steps}

    def act(self, op: str, each: Json) -> Json:
        match op:
            case "exit" | "signal":
                return self.end_or_signal(op, each)
            case "parent_exit":
                assert self.root is not None
                self.feed(self.root, m.Terminate(reason_of(each["reason"]), self.now))
                return "ok"
            case "fault":
                self.record.add_fault(each)
                return "ok"
            case "advance":
                self.now += each["seconds"]
                return "ok"
        instance = self.record.live(each.get("sup", "root"))
        if instance is None:
            return "not_running"
        if not instance.is_supervisor:
            return "not_a_supervisor"
        if op in ("msg", "foreign_exit"):
            return "ok"
        return self.call(instance.handle, op, each)

    def end_or_signal(self, op: str, each: Json) -> Json:
        instance = self.record.live(each["child"])
        if instance is None:
            return "not_running"
        reason = reason_of(each["reason"])
        if op == "signal":
            self.signal(instance, reason)
        elif instance.is_supervisor:
            self.feed(instance.handle, m.Terminate(reason, self.now))
        else:
            self.die(instance, reason)
        return "ok"

    def signal(self, instance: Instance, reason: Any) -> None:
        """exit(Pid, Reason) from a stranger."""
        if reason == KILL:
            self.kill(instance)
        elif reason != NORMAL and not instance.is_supervisor and instance.child.get("mode", "plain") == "plain":
            self.die(instance, reason)

    # -------------------------------------------------------------- processes

    def die(self, instance: Instance, reason: Any) -> None:
        self.record.ended(instance, reason)
        owner: Sup = instance.handle
        self.feed(owner, m.Exited(*owner.workers.pop(instance), reason, self.now))

    def kill(self, instance: Instance) -> None:
        if not instance.is_supervisor:
            self.die(instance, KILLED)
            return
        sup: Sup = instance.handle
        sup.ended = True
        self.record.ended(instance, KILLED)
        for child in list(sup.workers):
            self.orphaned(child, sup)
        if sup.parent is not None:
            self.feed(sup.parent, m.Exited(*sup.parent.workers.pop(instance), KILLED, self.now))

    def orphaned(self, instance: Instance, sup: Sup) -> None:
        """The exit signal ``killed`` from the supervisor."""
        if instance.is_supervisor:
            instance.handle.parent = None
            self.feed(instance.handle, m.Terminate(KILLED, self.now))
        elif not instance.stubborn:
            self.record.ended(instance, self.reply_to(instance, KILLED))

    @staticmethod
    def reply_to(instance: Instance, reason: Any) -> Any:
        """What a worker ends with when its supervisor sends ``reason``."""
        mode = instance.child.get("mode", "plain")
        return reason_of(mode[1]) if isinstance(mode, list) else reason

    def start(self, child: Json, owner: Sup | None, args: Json) -> Instance | Any:
        """An instance, None for ignore, or the reason of the failure."""
        fault = self.record.take_fault(child["id"])
        if fault is not None:
            return self.fail(child["id"], fault, owner)
        owner_child = owner.child if owner else None
        if child.get("type") != "supervisor":
            return self.record.started(child, owner_child, args, owner)
        flags = flags_of(child)
        specs = [spec_of(each, Start(each)) for each in child.get("children", [])]
        state = new(flags, specs)
        if isinstance(state, InvalidSpec):
            self.record.failed(child["id"], state)
            return state
        sup = Sup(child, state, owner)
        self.feed(sup, m.Boot(self.now))
        if not sup.ready:
            self.record.failed(child["id"], sup.outcome)
            return sup.outcome
        sup.instance = self.record.started(child, owner_child, args, sup)
        return sup.instance

    def fail(self, id: str, fault: Json, owner: Sup | None) -> Any:
        assert owner is not None
        for call in fault.get("during", []):
            asked = Asked(call["op"])
            self.record.asked.append(asked)
            self.post(owner, call, asked)
        how = fault.get("how", "error")
        if how == "ignore":
            self.record.ignored(id)
            return None
        reason = reason_of(fault.get("reason", "boom"))
        self.record.failed(id, reason)
        return ("EXIT", reason) if how == "exit" else reason

    # -------------------------------------------------------------- supervisors

    def feed(self, sup: Sup, event: m.Event) -> None:
        sup.inbox.append(event)
        self.pump(sup)

    def pump(self, sup: Sup) -> None:
        """Run the core until it is quiet. Timers run out when nothing else is left to do."""
        if sup.active:
            return
        sup.active = True
        while not sup.ended:
            if sup.inbox:
                event = sup.inbox.popleft()
            elif sup.timers:
                timer = next(iter(sup.timers))
                del sup.timers[timer]
                event = m.TimerFired(timer, self.now)
            else:
                break
            self.steps += 1
            sup.state, effects = step(sup.state, event)
            for effect in effects:
                self.carry_out(sup, effect)
        sup.active = False

    def carry_out(self, sup: Sup, effect: m.Effect) -> None:
        match effect:
            case m.Start(key=key, serial=serial, spec=spec):
                self.carry_out_start(sup, key, serial, spec.start)
            case m.Stop(ref=instance, signal=signal):
                self.carry_out_stop(sup, instance, signal)
            case m.SetTimer(timer=timer):
                if isinstance(timer, m.RetryTimer):
                    sup.inbox.append(m.TimerFired(timer, self.now))
                else:
                    sup.timers[timer] = None
            case m.CancelTimer(timer=timer):
                sup.timers.pop(timer, None)
            case m.Reply(call=call, answer=answer):
                asked = sup.calls.pop(call)
                asked.ret = answer_term(asked.op, answer, _name)
            case m.Refuse(call=call, error=SupervisorStopping()):
                sup.calls.pop(call).ret = exit_term(sup.state.reason)
            case m.Refuse(call=call, error=error):
                asked = sup.calls.pop(call)
                started = asked.op == "start_child" and not sup.state.dynamic
                asked.ret = error_term(error, _name, started=started)
            case m.Ready():
                sup.ready = True
            case m.End(reason=reason):
                self.end(sup, reason)

    def carry_out_start(self, sup: Sup, key: Hashable, serial: int, what: Start) -> None:
        started = self.start(what.child, sup, what.args)
        if isinstance(started, Instance):
            sup.workers[started] = (key, serial)
            outcome: m.Event = m.Started(key, serial, started, self.now)
        elif started is None:
            outcome = m.StartIgnored(key, serial, self.now)
        else:
            outcome = m.StartFailed(key, serial, started, self.now)
        sup.inbox.appendleft(outcome)

    def carry_out_stop(self, sup: Sup, instance: Instance, signal: str) -> None:
        if signal == "kill":
            self.kill_child(sup, instance)
        elif instance.is_supervisor:
            self.feed(instance.handle, m.Terminate("shutdown", self.now))
        elif not instance.stubborn:
            reason = self.reply_to(instance, "shutdown")
            self.record.ended(instance, reason)
            sup.inbox.append(m.Exited(*sup.workers.pop(instance), reason, self.now))

    def kill_child(self, sup: Sup, instance: Instance) -> None:
        place = sup.workers.pop(instance)
        if instance.is_supervisor:
            instance.handle.parent = None
            self.kill(instance)
        else:
            self.record.ended(instance, KILLED)
        sup.inbox.append(m.Exited(*place, KILLED, self.now))

    def end(self, sup: Sup, reason: Any) -> None:
        sup.ended = True
        sup.outcome = reason
        for asked in sup.calls.values():
            asked.ret = exit_term(reason)
        if sup.instance is None:
            return
        self.record.ended(sup.instance, reason)
        if sup.parent is not None:
            self.feed(sup.parent, m.Exited(*sup.parent.workers.pop(sup.instance), reason, self.now))

    # -------------------------------------------------------------- calls

    def call(self, sup: Sup, op: str, each: Json) -> Json:
        asked = Asked(op)
        self.post(sup, each, asked)
        self.pump(sup)
        return asked.ret

    def post(self, sup: Sup, each: Json, asked: Asked) -> None:
        try:
            request = self.request(sup, asked.op, each)
        except InvalidSpec as error:
            asked.ret = error_term(error, _name)
            return
        self.calls += 1
        sup.calls[self.calls] = asked
        if sup.ready:  # a call to a supervisor whose own start is under way (and fails) is never read
            sup.inbox.append(m.Call(self.calls, request, self.now))

    def request(self, sup: Sup, op: str, each: Json) -> m.Request:
        match op:
            case "which_children":
                return m.WhichChildren()
            case "count_children":
                return m.CountChildren()
            case "start_child" if "spec" in each:
                return m.StartChild(spec_of(each["spec"], Start(each["spec"])))
            case "start_child":
                template = sup.child["children"][0]
                return m.StartChild(spec_of(template, Start(template, each.get("args"))))
            case "restart_child":
                return m.RestartChild(each["child"])
            case "delete_child":
                return m.DeleteChild(each["child"])
            case "terminate_child":
                return m.TerminateChild(self.target(sup, each["child"]))
            case _:
                return m.GetChildSpec(self.target(sup, each["child"]))

    def target(self, sup: Sup, ref: str) -> m.Target:
        instance = self.record.named(ref)
        if instance is None:
            return m.ById(ref)
        for child in sup.state.children.values():
            if child.ref is instance and sup.state.dynamic:
                return m.ByKey(child.key, instance)
        return m.Stray(instance, instance.alive)

    # -------------------------------------------------------------- the tree

    def tree(self) -> Json:
        return [] if self.root is None or self.root.ended else self.branch(self.root)

    def branch(self, sup: Sup) -> Json:
        children = sorted(sup.state.children.values(), key=lambda child: -child.position)
        rows = [[child.spec.id, child.ref.name if child.status == "running" else "undefined"] for child in children]
        if sup.state.dynamic:
            rows = [["undefined", name] for _, name in sorted(rows, key=lambda row: generation(row[1]))]
        assert sup.instance is not None
        below = [child.ref.handle for child in children if child.status == "running" and child.ref.is_supervisor]
        return [[sup.instance.name, rows], *(row for each in below for row in self.branch(each))]


def _name(instance: Instance) -> str:
    return instance.name
