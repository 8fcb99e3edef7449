"""Workers to supervise, and a supervisor to look at, for the tests here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ramure.actors import Actor, ActorSystem, Exit, Ignore, Ref, Stop
from ramure.clock import Clock
from ramure.errors import ActorDied
from ramure.supervisors import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
    SupervisorError,
    SupervisorEvent,
)


class Worker(Actor):
    """Ends with the reason that it is told. ``starts`` gives what each start does: None is a good one, an
    exception is raised."""

    async def init(self, *notes: Any, trap: bool = False, starts: list[BaseException | None] | None = None) -> None:
        self.notes = notes
        self.trap_exit = trap
        problem = starts.pop(0) if starts else None
        if problem is not None:
            raise problem

    async def said(self) -> tuple[Any, ...]:
        return self.notes

    async def leave(self, supervisor: Ref[Any]) -> None:
        self.unlink(supervisor)

    def handle_info(self, message: Any) -> None:
        if not isinstance(message, Exit):
            raise Stop(message)


class Stubborn(Actor):
    """Traps exits and never gets its stopping done."""

    async def init(self) -> None:
        self.trap_exit = True

    async def terminate(self, reason: object) -> None:
        await self.system.clock.sleep(1e6)


class Trapping(Actor):
    """Traps exits, and ends with another reason than it was told, if it has one."""

    async def init(self, instead: object = None, seconds: float = 0.0) -> None:
        self.trap_exit = True
        self.instead = instead
        self.seconds = seconds

    async def terminate(self, reason: object) -> None:
        if self.seconds:
            await self.system.clock.sleep(self.seconds)
        if self.instead is not None:
            raise Stop(self.instead)


class Ignored(Actor):
    async def init(self) -> None:
        raise Ignore


class Failing(Actor):
    async def init(self, reason: object = "no") -> None:
        raise Stop(reason)


def spec(id: str, start: Any = Worker, *args: Any, **options: Any) -> ChildSpec:
    return ChildSpec(id, start, args, **options)


def fails(*then: BaseException | None, first: int = 1) -> dict[str, list[BaseException | None]]:
    """Keyword arguments for a Worker whose first starts are good, and the next as given."""
    return {"starts": [None] * first + list(then)}


@dataclass
class Tree:
    """A supervisor under test."""

    ref: Ref[Any]
    events: list[SupervisorEvent] = field(default_factory=list)

    @property
    def calls(self) -> Any:
        return self.ref.proxy(timeout=None)

    async def children(self) -> dict[Any, ChildInfo]:
        """By id, in start order."""
        return {info.id: info for info in reversed(await self.calls.which_children())}

    async def refs(self) -> dict[Any, Ref[Any] | None]:
        return {id: info.ref for id, info in (await self.children()).items()}

    async def ref_of(self, id: str) -> Ref[Any]:
        ref = (await self.refs())[id]
        assert ref is not None, f"{id} does not run"
        return ref

    async def states(self) -> dict[Any, str]:
        return {id: info.status for id, info in (await self.children()).items()}

    async def live(self) -> list[Ref[Any]]:
        """The refs of a dynamic supervisor's children, in start order."""
        return [info.ref for info in await self.calls.which_children() if info.ref is not None]

    async def counts(self) -> tuple[int, int, int, int]:
        counts: ChildCounts = await self.calls.count_children()
        return counts.specs, counts.active, counts.supervisors, counts.workers

    async def end(self, id: str, reason: object) -> Ref[Any]:
        """Have a child end by itself; returns what it was, once the supervisor has reacted."""
        ref = await self.ref_of(id)
        await end(ref, reason)
        await self.settled()
        return ref

    async def settled(self) -> None:
        """Return when no group of children is being stopped for a restart: calls that change something wait."""
        with contextlib.suppress(SupervisorError, ActorDied):
            await self.calls.delete_child(object())

    def kinds(self, id: object = None) -> list[str]:
        return [event.kind for event in self.events if id is None or event.id == id]


async def end(ref: Ref[Any], reason: object) -> None:
    if reason == "kill":
        ref.exit("kill")
        reason = "killed"
    else:
        ref.tell(reason)
    assert await ref.wait() == reason


async def start(system: ActorSystem, *children: ChildSpec, **flags: Any) -> Tree:
    events: list[SupervisorEvent] = []
    return Tree(await system.start(Supervisor, children, on_event=events.append, **flags), events)


async def start_dynamic(system: ActorSystem, template: ChildSpec | None = None, **flags: Any) -> Tree:
    events: list[SupervisorEvent] = []
    return Tree(await system.start(DynamicSupervisor, template, on_event=events.append, **flags), events)


@contextlib.asynccontextmanager
async def running(clock: Clock | None = None) -> AsyncIterator[ActorSystem]:
    """A system that must be empty when the test has stopped its supervisors."""
    async with ActorSystem("test", clock=clock) as system:
        yield system


async def restarted(tree: Tree, id: str, *before: Ref[Any] | None) -> bool:
    """True when the child runs, as another process than before."""
    ref = (await tree.refs())[id]
    return ref is not None and ref.is_alive() and ref not in before
