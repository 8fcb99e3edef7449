"""What both ways to run a ``sup`` scenario share: faults, names, the log of events, the oracle's encoding.

The formats are those of ``tests/otp_oracle/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ramure.exits import Shutdown
from ramure.supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    FailedToStartChild,
    InvalidSpec,
    NotForDynamic,
    SupervisorStopping,
)
from ramure.supervisors.messages import ChildCounts, ChildInfo, ChildStarted
from ramure.supervisors.spec import ChildSpec, Flags
from ramure.supervisors.strategies import SIMPLE_ONE_FOR_ONE

Json = Any


# ------------------------------------------------------------------ terms


def reason_of(term: Json) -> Any:
    """A term of a scenario as an exit reason of ours."""
    if isinstance(term, list):
        if len(term) == 2 and term[0] == "shutdown":
            return Shutdown(reason_of(term[1]))
        return tuple(reason_of(each) for each in term)
    return term


def term_of(reason: Any) -> Json:
    """An exit reason of ours as the oracle writes it."""
    match reason:
        case Shutdown(detail=detail):
            return ["shutdown", term_of(detail)]
        case FailedToStartChild(id=id, reason=why):
            return ["failed_to_start_child", id, term_of(why)]
        case InvalidSpec():
            return ["start_spec", invalid_term(reason)]
        case tuple():
            return [term_of(each) for each in reason]
        case str() | int():
            return reason
        case _:
            raise TypeError(f"no term for {reason!r}")


def invalid_term(error: InvalidSpec) -> Json:
    """OTP's word for a bad specification."""
    if error.field != "significant":
        return [_INVALID.get(error.field, f"invalid_{error.field}"), error.value]
    other = ["auto_shutdown", "never"] if "auto_shutdown" in error.expected else ["restart", "permanent"]
    return ["bad_combination", {"list": [other, ["significant", True]]}]


_INVALID = {"restart": "invalid_restart_type", "type": "invalid_child_type"}


def sort_key(term: Json) -> Any:
    """Erlang's order of terms, as far as events need it: numbers, atoms, tuples."""
    if isinstance(term, list):
        return (2, len(term), [sort_key(each) for each in term])
    return (0, term) if isinstance(term, int) else (1, term)


# ------------------------------------------------------------------ specifications


def settings_of(sup: Json, *without: str) -> dict[str, Any]:
    keys = {"strategy", "intensity", "period", "auto_shutdown"} - set(without)
    return {key: sup[key] for key in keys if key in sup}


def flags_of(sup: Json) -> Flags:
    return Flags(**settings_of(sup))


def spec_of(child: Json, start: Any, args: tuple[Any, ...] = ()) -> ChildSpec:
    """The child's specification; raises InvalidSpec."""
    given = {key: child[key] for key in ("restart", "type", "significant") if key in child}
    shutdown = child.get("shutdown")
    if isinstance(shutdown, int):
        shutdown = shutdown / 1000
    return ChildSpec(child["id"], start, args, shutdown=shutdown, **given)


def is_simple(sup: Json) -> bool:
    return bool(sup.get("strategy") == SIMPLE_ONE_FOR_ONE)


# ------------------------------------------------------------------ answers


def error_term(error: Exception, name: Any, *, started: bool = False) -> Json:
    """A refusal as OTP's ``{error, …}``; ``name`` gives a ref's name, ``started`` says that a start_child with
    a specification was refused."""
    match error:
        case AlreadyStarted(ref=ref):
            return ["error", ["already_started", name(ref)]]
        case ChildStartFailed(reason=reason) if started:
            return ["error", [term_of(reason), "<child>"]]
        case ChildStartFailed(reason=reason):
            return ["error", term_of(reason)]
        case InvalidSpec():
            return ["error", invalid_term(error)]
        case _:
            return ["error", _REFUSALS[type(error)]]


_REFUSALS = {
    AlreadyPresent: "already_present",
    ChildNotFound: "not_found",
    ChildRestarting: "restarting",
    ChildRunning: "running",
    NotForDynamic: "simple_one_for_one",
}


def answer_term(op: str, answer: Any, name: Any) -> Json:
    if op in ("start_child", "restart_child"):
        ref = answer.ref if isinstance(answer, ChildStarted) else answer
        return ["ok", "undefined" if ref is None else name(ref)]
    match answer:
        case None:
            return "ok"
        case ChildCounts():
            return {key: getattr(answer, key) for key in ("active", "specs", "supervisors", "workers")}
        case ChildSpec():
            return ["ok", _spec_term(answer)]
        case _:
            return _rows(answer, name)


def _spec_term(spec: ChildSpec) -> Json:
    shutdown = spec.shutdown
    return {
        "id": spec.id,
        "restart": spec.restart,
        "shutdown": shutdown if isinstance(shutdown, str) else round((shutdown or 0) * 1000),
        "significant": spec.significant,
        "type": spec.type,
    }


def _rows(infos: tuple[ChildInfo, ...], name: Any) -> Json:
    rows = []
    for info in infos:
        shown = info.status if info.ref is None else name(info.ref)
        rows.append(["undefined" if info.id is None else info.id, shown, info.type])
    if infos and infos[0].id is None:
        rows.sort(key=lambda row: generation(row[1]))
    return rows


def generation(name: str) -> int:
    """The number of an instance's name; 0 for ``undefined`` and ``restarting``."""
    _, _, number = name.partition("#")
    return int(number or 0)


# ------------------------------------------------------------------ what is recorded


@dataclass(slots=True, eq=False)
class Instance:
    """One successful start of a child."""

    id: str
    generation: int
    child: Json
    owner: Json
    handle: Any = None
    alive: bool = True

    @property
    def name(self) -> str:
        return f"{self.id}#{self.generation}"

    @property
    def is_supervisor(self) -> bool:
        return bool(self.child.get("type") == "supervisor")

    @property
    def stubborn(self) -> bool:
        return bool(self.child.get("mode") == "stubborn")


@dataclass(slots=True)
class Asked:
    """A call made by a failing start, and its answer once there is one."""

    op: str
    ret: Json = None


@dataclass(slots=True)
class Recorder:
    """Everything a scenario's result is made of."""

    faults: dict[str, list[Json]] = field(default_factory=dict)
    instances: dict[str, list[Instance]] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    killed_supervisor: bool = False
    scribe: Any = None

    def add_fault(self, fault: Json) -> None:
        self.faults.setdefault(fault["child"], []).append(dict(fault))

    def take_fault(self, id: str) -> Json | None:
        """The fault that the next start of the child meets, if any. Faults are used up in order."""
        faults = self.faults.get(id)
        if not faults:
            return None
        first = faults[0]
        if first.get("skip", 0) > 0:
            first["skip"] -= 1
            return None
        taken = dict(first)
        if first.get("n", 1) > 1:
            first["n"] -= 1
            first.pop("during", None)
        else:
            faults.pop(0)
        return taken

    def register(self, child: Json, owner: Json, handle: Any) -> Instance:
        each = self.instances.setdefault(child["id"], [])
        instance = Instance(child["id"], len(each) + 1, child, owner, handle)
        each.append(instance)
        return instance

    def started(self, child: Json, owner: Json, args: Json, handle: Any) -> Instance:
        instance = self.register(child, owner, handle)
        self.events.append(["start", instance.name, args] if args else ["start", instance.name])
        return instance

    def failed(self, id: str, reason: Any) -> None:
        self.events.append(["start_failed", id, term_of(reason)])

    def ignored(self, id: str) -> None:
        self.events.append(["start_ignored", id])

    def ended(self, instance: Instance, reason: Any) -> None:
        instance.alive = False
        self.killed_supervisor |= instance.is_supervisor and reason == "killed"
        self.events.append(["stop", instance.name, term_of(reason)])

    def all(self) -> Iterator[Instance]:
        for each in self.instances.values():
            yield from each

    def live(self, ref: str) -> Instance | None:
        """The newest live instance of this id, or the live instance of this name."""
        id, _, _ = ref.partition("#")
        for instance in reversed(self.instances.get(id, [])):
            if instance.alive and ref in (instance.id, instance.name):
                return instance
        return None

    def named(self, name: str) -> Instance | None:
        """The instance of this name, dead or alive; None for an id or an unknown name."""
        id, _, number = name.partition("#")
        each = self.instances.get(id, [])
        return each[int(number) - 1] if number and 0 < int(number) <= len(each) else None

    def result(self, op: str | None, ret: Json, tree: Json) -> Json:
        """The step's result, and a clean sheet for the next one."""
        events, self.events = self.events, []
        unordered, self.killed_supervisor = self.killed_supervisor, False
        asked, self.asked = self.asked, []
        shown = {row[1] for _, rows in tree for row in rows}
        orphans = sorted(i.name for i in self.all() if i.alive and i.stubborn and i.name not in shown)
        events = sorted(events, key=_event_key) if unordered else self._sort_parallel(events)
        result: Json = {"events": events}
        if op is not None:
            result["op"] = op
        result |= {"ret": ret, "tree": tree}
        if asked:
            result["during"] = [[each.op, each.ret] for each in asked]
        if orphans:
            result["orphans"] = orphans
        if unordered:
            result["unordered"] = True
        return result

    def _sort_parallel(self, events: list[Json]) -> list[Json]:
        """Sort each run of stops of one simple_one_for_one supervisor's children by generation."""
        done: list[Json] = []
        at = 0
        while at < len(events):
            owner = self._parallel_owner(events[at])
            end = at + 1
            if owner is not None:
                while end < len(events) and self._parallel_owner(events[end]) == owner:
                    end += 1
            done.extend(
                sorted(events[at:end], key=lambda event: generation(event[1])) if end > at + 1 else [events[at]]
            )
            at = end
        return done

    def _parallel_owner(self, event: Json) -> str | None:
        if event[0] != "stop":
            return None
        instance = self.named(event[1])
        if instance is None or instance.owner is None or not is_simple(instance.owner):
            return None
        return str(instance.owner.get("id", "root"))


def _event_key(event: Json) -> Any:
    return [sort_key(each) for each in event]


def exit_term(reason: Any) -> Json:
    return ["exit", term_of(reason)]


def stopping(error: BaseException) -> bool:
    return isinstance(error, SupervisorStopping)
