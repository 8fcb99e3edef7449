"""The children of a tree: what each is started from, and its place, which lives as long as the tree, while the processes in
it come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ramure.agents.requests import Usage
from ramure.errors import ActorDied, UsageError
from ramure.runtime.errors import ProcessEnded
from ramure.runtime.process.messages import CallEndpoint

if TYPE_CHECKING:
    from ramure.agents.tools.kinds import Kind
    from ramure.machines.base import Image
    from ramure.runtime.process.attachment import Attachment
    from ramure.runtime.process.record import OnIdle, Outcome, ProcessRecord
    from ramure.runtime.process.stream import EventStream
    from ramure.supervisors.spec import Restart, RestartIf

__all__ = ["Child", "ProcessFunction", "Slot", "check_child"]

R_co = TypeVar("R_co", covariant=True)


class ProcessFunction(Protocol):
    """A decorated function, as far as a tree needs to know it."""

    name: str
    function: Callable[..., Awaitable[Any]]
    image: Image | None
    timeout: float | None
    retain: int | None
    events: Mapping[str, Kind]
    on_idle: OnIdle


@dataclass(frozen=True)
class Child(Generic[R_co]):
    """One child of a tree; made by :func:`ramure.child`."""

    function: ProcessFunction
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    id: Any = None
    restart: Restart = "transient"
    restart_if: RestartIf | None = None


@dataclass(eq=False)
class Slot:
    """A child's place: its present process, its stream across restarts, how it ended for good."""

    id: Any
    tree: ProcessRecord
    stream: EventStream
    child: Child[Any]
    record: ProcessRecord | None = None
    outcome: Outcome | None = None
    incarnations: int = 0
    spent: Usage = field(default_factory=Usage)
    """What the processes before the present one have used."""
    attachments: list[Attachment] = field(default_factory=list)
    """What is to be shown the endpoints of each process in this place."""
    queued: bool = False
    """True until its first process is started, where the tree has a limit."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its first process, if the tree was told of it later, runs or has failed to start."""
    waits: set[asyncio.Future[None]] = field(default_factory=set)
    """What those wait for who wait for its end."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Somebody may wait for another process, or for the end."""
        self._changed.set()
        self._changed = asyncio.Event()
        if self.outcome is not None:
            for future in self.waits:
                if not future.done():
                    future.set_result(None)

    @property
    def is_between(self) -> bool:
        """True while no process runs here, and one will, whatever others do."""
        return self.outcome is None and not self.queued and (self.record is None or self.record.outcome is not None)

    def usage(self) -> Usage:
        """What all processes in this place have used so far."""
        total = Usage()
        total.take(self.spent)
        if self.record is not None:
            total.take(self.record.usage())
        return total

    async def ended(self) -> Outcome:
        """Return how its last process ended, when there will be no other."""
        if self.outcome is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waits.add(future)
            self.tree.run.stalls.look()
            try:
                await future
            finally:
                self.waits.discard(future)
        assert self.outcome is not None
        return self.outcome

    def on_expose(self, attachment: Attachment) -> None:
        """Show it each endpoint to come, of the process that runs here now and of those after it. Those of agents that
        have ended are forgotten."""
        assert self.record is not None  # it has endpoints
        self.record.on_expose(attachment)
        self.attachments = [*(each for each in self.attachments if not each.over), attachment]

    async def process(self) -> ProcessRecord:
        """The process that runs in this place now; during a restart, the next one."""
        while True:
            record = self.record
            if record is not None and record.outcome is None:
                await record.wait_started()
                if record.ref is not None and record.ref.is_alive():
                    return record
            if self.outcome is not None or self.tree.outcome is not None:
                raise ProcessEnded(str(self.id), "calling it", self.outcome.exit_reason() if self.outcome else None)
            await self._changed.wait()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call an endpoint. What was in flight when the process died raises, and is never sent again."""
        record = await self.process()
        assert record.ref is not None
        try:
            return await record.ref.ask(CallEndpoint(name, arguments), timeout=None)
        except ActorDied as died:
            raise ProcessEnded(record.label, f"calling {name!r}", died.reason) from died


def check_child(child: object, verb: str, taken: Callable[[Any], bool]) -> None:
    """Raise UsageError for what cannot be a child of a tree; ``taken(id)``: whether another one has the id."""
    if not isinstance(child, Child):
        raise UsageError(f"{verb}({child!r}): give child(function, ..., id=...)")
    if taken(child.id):
        raise UsageError(f"{verb}(): two children have the id {child.id!r}; give each one of its own")
