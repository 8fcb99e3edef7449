"""Whether a simulated run is sound, apart from what its author says of it. Pure.

A program may fail under faults: with a reason of a type that its caller can catch. What it may not: hang, fail without a
fault, fail with an exception that no fault explains, leave something behind, let a failure go unseen, do something twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramure.errors import ExecutionFailed, OperationalError
from ramure.runtime.errors import Stalled
from ramure.testing.sim_memory import Memory
from ramure.testing.simulation.invariants import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ramure.testing.simulation.world import SimulatedRun, World

__all__ = ["causes", "verdict"]

_STOPS = frozenset({"model_stops", "provider", "duplicate_call", "handler_raises"})
"""Faults after which a model may stop without having called its tool."""

_UNSEEN = {
    "nobody has seen that": "unseen failure",
    "returned while children ran that nobody has awaited": "forgotten child",
    "returned while what its agents were sent was under way": "forgotten agent",
    "these processes wait for each other": "wait in a circle",
    "tasks that": "forgotten task",
}
"""What the runtime warns a program's author of, and what that is called here."""


def verdict(world: World, left: Sequence[str], allow: tuple[type[BaseException], ...]) -> Failure | None:
    """What is wrong with a run that has ended; ``left``: tasks that it has left; ``allow``: errors that it may end with."""
    run = world.run
    for each in (
        _script(world),
        _error(run, allow),
        _left(world, left),
        _unseen(world),
        _unseen_failures(world),
        _twice(world),
    ):
        if each is not None:
            return each
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors that an error comes of: of a group, of a tree that gave up; the error itself where there are none."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from causes(each)
    elif error.__cause__ is not None and isinstance(error, ExecutionFailed):
        yield from causes(error.__cause__)
    else:
        yield error


def _script(world: World) -> Failure | None:
    if not world.errors:
        return None
    return Failure("script", f"the model's script has no answer: {world.errors[0]}", "script")


def _error(run: SimulatedRun, allow: tuple[type[BaseException], ...]) -> Failure | None:
    if run.error is None or isinstance(run.error, allow):
        return None
    befallen = {fault.kind for fault in run.faults}
    for cause in causes(run.error):
        name = type(cause).__name__
        text = f"{name}: {' '.join(str(cause).split())}"
        if isinstance(cause, allow):
            continue
        if not isinstance(cause, (ExecutionFailed, OperationalError)):
            return Failure("error", f"the program fails with {text}", name)
        if not befallen:
            return Failure("error", f"the program fails without a fault: {text}", name)
        if isinstance(cause, Stalled) and not befallen & _STOPS:
            return Failure("error", f"no model has stopped short, and yet: {text}", name)
    return None


def _left(world: World, left: Sequence[str]) -> Failure | None:
    if left:
        return Failure("left", f"tasks are left behind: {', '.join(left[:5])}", "tasks")
    machines = [machine.describe() for machine in world.machines if not machine.stopped]
    if machines:
        return Failure("left", f"machines are left running: {', '.join(machines[:5])}", "machines")
    agents = [name for name, state in world.run.agents.items() if state != "ended"]
    if agents:
        return Failure("left", f"agents have not ended: {', '.join(agents[:5])}", "agents")
    open_calls = [f"{call.tool} of {call.agent}" for call in world.run.calls if not call.ended]
    if open_calls:
        return Failure("left", f"calls have not ended: {', '.join(open_calls[:5])}", "calls")
    return None


def _unseen(world: World) -> Failure | None:
    for process, text in world.problems:
        for sign, name in _UNSEEN.items():
            if sign in text and not (name == "unseen failure" and world.run.error is not None):
                return Failure("unseen", f"{name} ({process}): {text}", name)
    return None


def _unseen_failures(world: World) -> Failure | None:
    """Children that failed while nobody looked, and at whose ending nobody has looked since; of a program that has failed
    itself, nobody could."""
    if world.run.error is not None:
        return None
    for record in world.processes.values():
        if record.told and not record.retrieved and not record.stream.ending_read and record.outcome is not None:
            text = f"unseen failure: nobody awaits the handle or reads the events of {record.label}, which failed"
            return Failure("unseen", f"{text}: {record.outcome.text()}", "unseen failure")
    return None


def _twice(world: World) -> Failure | None:
    seen: set[tuple[str, str]] = set()
    for call in world.run.calls:
        key = (call.agent, call.call_id)
        if key in seen:
            return Failure("twice", f"one call of {call.tool} of {call.agent} came to its handler twice", "call")
        seen.add(key)
    for machine in world.machines:
        for path, data in machine.files.items():
            if path.endswith(".jsonl"):
                markers = Memory(data.decode(), lambda line: None).markers()
                if len(markers) != len(set(markers)):
                    return Failure("twice", f"a message is in the conversation {path} twice", "message")
    return None
