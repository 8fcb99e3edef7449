"""How actors start: with which options, the handshake, and what its failure is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ramure.actors._kernel import relations
from ramure.actors._kernel.body import BodyCell
from ramure.actors._kernel.cell import BOUNDED, DEAD, Cell, current_cell
from ramure.actors._kernel.server import ServerCell
from ramure.actors.actor import Actor
from ramure.actors.mailbox import Mailbox
from ramure.data import data
from ramure.errors import NotInActor, OperationalError, StartFailed, UsageError
from ramure.exits import KILLED, SHUTDOWN, Crashed

if TYPE_CHECKING:
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["StartIgnored", "StartTimeout", "Starter"]

A = TypeVar("A")


class StartIgnored(OperationalError):
    """The actor's ``init`` raised ``Ignore``: it does not want to run now."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target} ignored its start")


class StartTimeout(StartFailed, TimeoutError):
    """``init`` did not return in time; the actor was killed."""

    def __init__(self, target: str, seconds: float) -> None:
        super().__init__(target, f"init did not return within {seconds:g} s")


@data
class Starter:
    """How to start actors: what :meth:`ActorSystem.options` returns."""

    system: ActorSystem
    name: str | None = None
    link: bool = False
    mailbox: Mailbox | None = None
    timeout: float | None = None
    label: str | None = None
    plain: bool = False
    """It has no options: there is nothing to apply."""

    async def start(self, actor_class: type[A], *args: Any, **kwargs: Any) -> Ref[A]:
        """Start an actor with these options; see :meth:`ActorSystem.start`."""
        cell = self._begin(actor_class, args, kwargs)
        if cell.phase == "starting" and not cell.flags & DEAD:
            await self._wait(cell)
        return _started(cell)

    def start_now(self, actor_class: type[A], *args: Any, **kwargs: Any) -> Ref[A]:
        """``start``, from plain code, for an actor whose ``init`` does not wait. Raises UsageError, too, where it does."""
        cell = self._begin(actor_class, args, kwargs)
        if cell.phase == "starting" and not cell.flags & DEAD:
            cell.die(KILLED)
            raise UsageError(f"{cell.label}: its init waits; start it with `await ...start(...)`")
        return _started(cell)

    def _begin(self, actor_class: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> ServerCell:
        """Run its ``init`` as far as it goes without waiting."""
        system = self.system
        number, context = system.admit()
        cell_class: Any = ServerCell if issubclass(actor_class, Actor) else _threaded(actor_class)
        cell: ServerCell = cell_class(system, number, context, actor_class)
        system.cells[number] = cell
        if not self.plain:
            self._apply(cell)
        if system.tracers:
            system.trace_start(cell)
        cell._as_current(cell.begin, args, kwargs)
        return cell

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Ref[Any]:
        """Start a function-style actor with these options; see :meth:`ActorSystem.spawn`."""
        system = self.system
        number, context = system.admit()
        cell = BodyCell(system, number, context, function)
        system.cells[number] = cell
        try:
            self._apply(cell)
            if system.tracers:
                system.trace_start(cell)
            cell.begin(args, kwargs)
        except BaseException:
            cell.die(SHUTDOWN)
            raise
        return cell.ref

    def _apply(self, cell: Cell) -> None:
        try:
            cell.given_label = self.label
            if self.name is not None:
                self.system.names.register(self.name, cell)
            if self.mailbox is not None:
                cell.mailbox = self.mailbox
                cell.flags |= BOUNDED
            if self.link:
                parent = current_cell()
                if parent is None:
                    raise NotInActor("start_link()")
                cell.parent = parent
                relations.link(parent, cell)
        except BaseException:
            cell.die(SHUTDOWN)
            raise

    async def _wait(self, cell: ServerCell) -> None:
        future = cell.waiters_for_start = self.system.loop.create_future()
        try:
            await asyncio.wait_for(future, self.timeout)
        except TimeoutError:
            cell.die("killed")
            raise StartTimeout(cell.label, self.timeout or 0.0) from None
        except asyncio.CancelledError:
            cell.die("killed")
            raise


def _started(cell: ServerCell) -> Ref[Any]:
    """The ref of an actor whose ``init`` is through. Raises what :meth:`ActorSystem.start` does."""
    if cell.flags & DEAD and cell.phase == "starting":
        if cell.ignored:
            raise StartIgnored(cell.label)
        reason = cell.reason
        raise StartFailed(cell.label, reason) from (reason.exception if isinstance(reason, Crashed) else None)
    return cell.ref


def _threaded(actor_class: type) -> type[ServerCell]:
    from ramure.actors._kernel.pykka_adapter import cell_class_for

    return cell_class_for(actor_class)
