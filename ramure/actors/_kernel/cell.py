"""The kernel's record of one actor: identity, mailbox, relations, and its one way to end."""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from ramure.actors._kernel import relations
from ramure.actors._kernel.coroutine_driver import Steps
from ramure.actors._kernel.sparse import Sparse
from ramure.actors.messages import Ask, Continue, Down, Exit, StopRequest, SysRequest, TimeoutFired
from ramure.actors.proxy import Proxy
from ramure.errors import ActorDied, MailboxFull
from ramure.exits import NOPROC, Crashed, Phase
from ramure.faults import contained

if TYPE_CHECKING:
    from ramure.actors.mailbox import Mailbox
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem
    from ramure.actors.timers import Timer

__all__ = ["Cell", "current_cell"]

_current: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("ramure_actor", default=None)

# Bits of Cell.flags: what an activation must look at besides the queue. 0 for almost every actor.
DEAD: Final = 1
STOPPING: Final = 2
TIMEOUT: Final = 4
BOUNDED: Final = 8
SUSPENDED: Final = 16
TRACED: Final = 32
CANCELLED: Final = 64

EXEMPT: Final = frozenset({Exit, Down, StopRequest, SysRequest, Continue, TimeoutFired})
"""Message types that mailbox limits do not apply to."""

EMPTY: Final[Any] = ()
"""The mailbox of an actor for which nothing waits: a deque of its own would be half of what the actor takes."""

State = Literal["starting", "idle", "busy", "suspended", "stopping", "dead"]


class Cell(Steps):
    """One actor, as the kernel sees it. ``Ref`` is what everybody else sees."""

    __slots__ = (
        "_context",
        "_fresh",
        "base",
        "current",
        "flags",
        "given_label",
        "links",
        "monitoring",
        "monitors",
        "names",
        "number",
        "parent",
        "phase",
        "plain",
        "queue",
        "reason",
        "ref",
        "scheduled",
        "started_at",
        "system",
        "trap_exit",
    )

    ref_class: ClassVar[type[Ref[Any]]]
    """Set by the module of it, which needs this one: an import here, at each start, would be a quarter of its cost."""

    timers: Sparse[dict[Timer, None] | None] = Sparse(None)
    deferred: Sparse[dict[Ask, None] | None] = Sparse(None)
    waiting_for: Sparse[Cell | None] = Sparse(None)
    waiters: Sparse[list[asyncio.Future[object]] | None] = Sparse(None)
    mailbox: Sparse[Mailbox | None] = Sparse(None)
    room: Sparse[deque[asyncio.Future[None]] | None] = Sparse(None)
    dropped: Sparse[int] = Sparse(0)
    probe: Sparse[Any] = Sparse(None)
    tasks: Sparse[set[asyncio.Task[Any]] | None] = Sparse(None)
    on_end: Sparse[Callable[[object], None] | None] = Sparse(None)
    """Called with the reason when it has ended, however it did; must not raise."""

    def __init__(self, system: ActorSystem, number: int, base: contextvars.Context) -> None:
        super().__init__(system.loop)
        self.base: contextvars.Context = base
        self._context: contextvars.Context | None = None
        self._fresh: contextvars.Context | None = None
        self.system: ActorSystem = system
        self.number: int = number
        self.queue: deque[Any] = EMPTY
        self.flags: int = 0
        self.phase: Literal["starting", "running", "stopping"] = "starting"
        self.current: object = None
        self.scheduled: bool = False
        self.plain: bool = False
        self.trap_exit: bool = False
        self.links: dict[Cell, None] | None = None
        self.monitors: dict[relations.Monitor, None] | None = None
        self.monitoring: dict[relations.Monitor, None] | None = None
        self.names: tuple[str, ...] = ()
        self.given_label: str | None = None
        self.parent: Cell | None = None
        self.reason: object = None
        self.started_at: float = system.moment()
        self.ref: Ref[Any] = self.ref_class(self)

    @property
    def context(self) -> contextvars.Context:
        """The actor's own context: that in which it was started, and who is current."""
        context = self._context
        if context is None:
            context = self._context = self.base.copy()
            context.run(_current.set, self)
            self._fresh = context.copy()
        return context

    def rest(self) -> None:
        """Nothing is left to do: give the context back, unless the actor has set variables of its own in it.

        It is a third of what an idle actor takes, and made again in less than a microsecond.
        """
        fresh = self._fresh
        if fresh is not None:
            self._fresh = None
            if same_context(fresh, self._context):
                self._context = None

    # -- identity ---------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The name of the class or function that it runs."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        name = self.given_label or (self.names[0] if self.names else None)
        return f"<{self.kind} {name!r} #{self.number}>" if name else f"<{self.kind} #{self.number}>"

    def __repr__(self) -> str:
        return self.label

    @property
    def dead(self) -> bool:
        return self.flags & DEAD != 0

    @property
    def state(self) -> State:
        if self.flags & DEAD:
            return "dead"
        if self.phase != "running":
            return self.phase
        if self.flags & SUSPENDED:
            return "suspended"
        return "busy" if self.current is not None or self.coro is not None else "idle"

    def doing(self) -> Phase | None:
        """What it is doing now, for errors and crash reports."""
        if self.phase == "running":
            return Phase("handling", self.current) if self.current is not None else None
        return Phase(self.phase)

    # -- mailbox ----------------------------------------------------------------------------------

    def deliver(self, message: Any) -> None:
        """Put ``message`` into the mailbox (on the system's loop)."""
        if self.flags & (DEAD | TRACED):
            if self.flags & DEAD:
                self.undelivered(message)
                return
            self.probe.sent(message)
        if self.mailbox is not None and type(message) not in EXEMPT and not self._admit(message):
            return
        if self.queue is EMPTY:
            self.queue = deque()
        self.queue.append(message)
        self.wake()

    def deliver_first(self, message: Any) -> None:
        """Put ``message`` before all others, whatever the limit."""
        if self.queue is EMPTY:
            self.queue = deque()
        self.queue.appendleft(message)
        self.wake()

    def deliver_from_outside(self, message: Any) -> None:
        """What another thread sent has arrived. It cannot be told that the mailbox is full: that counts as a drop."""
        try:
            self.deliver(message)
        except MailboxFull:
            self.dropped += 1
            self.system.dead_letter(self, message)

    def undelivered(self, message: Any) -> None:
        """A message came after the end: askers learn it, the rest is a dead letter."""
        if type(message) is Ask:
            fail_future(message.future, ActorDied(self.label, NOPROC, message.request))
        elif type(message) is SysRequest:
            fail_future(message.future, ActorDied(self.label, NOPROC))
        elif type(message) not in EXEMPT:
            self.system.dead_letter(self, message)

    def _admit(self, message: Any) -> bool:
        mailbox = self.mailbox
        assert mailbox is not None
        if len(self.queue) < mailbox.limit or self.room_left() > 0:
            return True
        error = MailboxFull(self.label, mailbox.limit)
        if mailbox.overflow == "fail":
            if type(message) is not Ask:
                raise error
            fail_future(message.future, error)
            return False
        self.dropped += 1
        dropped = message
        admitted = mailbox.overflow == "drop_old"
        if admitted:
            oldest = next(index for index, m in enumerate(self.queue) if type(m) not in EXEMPT)
            dropped = self.queue[oldest]
            del self.queue[oldest]
        if type(dropped) is Ask:
            fail_future(dropped.future, error)
        return admitted  # not `dropped is not message`: the same object may be sent twice

    def room_left(self) -> int:
        """How many more messages fit (for a mailbox with a limit)."""
        assert self.mailbox is not None
        return self.mailbox.limit - sum(type(m) not in EXEMPT for m in self.queue)

    async def wait_for_room(self) -> None:
        """Return when a message would fit, or when the actor is dead."""
        waited = False
        while self.mailbox is not None and not self.dead and self.room_left() <= 0:
            future: asyncio.Future[None] = self.loop.create_future()
            if self.room is None:
                self.room = deque()
            if waited:  # told that there is room, but somebody was quicker: keep the place
                self.room.appendleft(future)
            else:
                self.room.append(future)
            waited = True
            try:
                await future
            except BaseException:
                if future.done() and not future.cancelled():
                    self._give_room()  # told that there is room, but cancelled: the next one may have it
                raise

    def _give_room(self) -> None:
        while self.room:
            future = self.room.popleft()
            if not future.done():
                future.set_result(None)
                if not self.dead:
                    return

    def remove_from_queue(self, match: Callable[[Any], bool]) -> None:
        """Remove every waiting message that matches."""
        if self.queue:
            kept = [message for message in self.queue if not match(message)]
            self.queue.clear()
            self.queue.extend(kept)

    def wake(self) -> None:
        """Have the mailbox looked at, if nobody is doing so already."""
        if not self.scheduled:
            self.scheduled = True
            system = self.system
            system.ready.append(self)
            if not system.dispatching:
                system.start_dispatching()

    def refresh(self) -> None:
        """The flags have changed."""

    def run(self) -> None:
        """One activation by the system's dispatcher, in this actor's context."""
        raise NotImplementedError

    def proxy(self, timeout: float | None) -> Any:
        """What ``ref.proxy()`` returns."""
        return Proxy(self.ref, timeout)

    def run_now(self) -> None:
        """One activation, from within somebody else's task."""
        loop = self.loop
        outer: Any = asyncio.current_task(loop)
        if outer is not None:
            _leave_task(loop, outer)
        try:
            self.context.run(self.run)
        finally:
            if outer is not None:
                _enter_task(loop, outer)

    def check_method(self, name: str) -> None:
        """Raise AttributeError unless a proxy may call the method ``name``."""
        raise AttributeError(f"{self.label} has no methods; send it messages with tell and ask")

    def own_task(
        self, coroutine: Coroutine[Any, Any, Any], name: str | None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """A task that lives at most as long as the actor; its failure is the actor's."""
        work = contained(coroutine)
        task: asyncio.Task[Any] = self.loop.create_task(work, name=name, context=context or self.context.copy())
        if self.flags & DEAD:
            task.cancel()
        if self.tasks is None:
            self.tasks = set()
        self.tasks.add(task)
        self.system.tasks.add(task)
        task.add_done_callback(partial(self._task_done, coroutine))
        return task

    def _task_done(self, coroutine: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        self.system.tasks.discard(task)
        if self.tasks:
            self.tasks.discard(task)
        if task.cancelled():
            coroutine.close()  # cancelled before its first step, it was never awaited
        elif (error := task.exception()) is not None and not self.dead:
            self.end(Crashed(error, Phase("running")))

    def end_future(self) -> asyncio.Future[object]:
        """A future for the exit reason of this (live) actor."""
        future: asyncio.Future[object] = self.loop.create_future()
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(future)
        return future

    def in_own_thread(self) -> bool:
        """True in the thread of a threaded actor: a blocking wait there is the actor's own."""
        return False

    def become_current(self) -> None:
        """From here on, in this context, code belongs to this actor."""
        _current.set(self)

    def end(self, reason: object) -> None:
        """End for a reason of its own, in order where the kind of actor has an order for that."""
        self.die(reason)

    def answered(self, ask: Ask) -> None:
        """An ask got its answer: it no longer depends on this actor's life."""
        if self.deferred:
            self.deferred.pop(ask, None)

    def cancel(self, msg: Any = None) -> bool:
        self.flags |= CANCELLED  # for one message, at most
        return super().cancel(msg)

    def _wait_for(self, trap: Any) -> None:
        super()._wait_for(trap)
        if self.flags & DEAD:  # it ended itself in the step that has just suspended
            self._close()

    # -- the one way out ----------------------------------------------------------------------------

    def die(self, reason: object) -> None:
        """End now, with ``reason``: nothing of it runs on, and everybody concerned is told."""
        if self.flags & DEAD:
            return
        self.reason = reason
        self.flags |= DEAD
        self.plain = False
        if self.flags & TRACED:
            self.probe.ended(reason)
        self._close()
        self.system.forget(self)
        if self.queue or self.current is not None or self._rare:
            self._abandon(reason)
        self.queue = EMPTY
        self._released()
        self.system.report_end(self)
        relations.ended(self)

    def _abandon(self, reason: object) -> None:
        """Whoever waits for something of it is told, and what it has under way ends."""
        for timer in list(self.timers or ()):
            timer.cancel()
        queue = self.queue
        unanswered = [m for m in (self.current, *queue) if type(m) is Ask]
        for ask in (*unanswered, *(self.deferred or ())):
            fail_future(ask.future, ActorDied(self.label, reason, ask.request))
        for message in queue:
            if type(message) is SysRequest:
                fail_future(message.future, ActorDied(self.label, reason))
        self.deferred = None
        for task in self.tasks or ():
            task.cancel()
        self.tasks = None
        self._give_room()
        for waiter in self.waiters or ():
            if not waiter.done():
                waiter.set_result(reason)
        self.waiters = None
        if self.on_end is not None:
            self.on_end(reason)

    def _released(self) -> None:
        """Let go of what the actor held, once it is dead."""


def current_cell() -> Cell | None:
    """The actor whose code is running here, also in tasks that it created; None outside of actors."""
    return _current.get()


def cell_of(context: contextvars.Context) -> Cell | None:
    """The actor that code in ``context`` belongs to."""
    return context.get(_current)


def fail_future(future: asyncio.Future[Any], error: BaseException) -> None:
    """Set ``error`` unless the future has ended already."""
    if not future.done():
        future.set_exception(error)


def same_context(one: contextvars.Context, other: contextvars.Context | None) -> bool:
    """True when both hold the same values; at once, where neither was changed since it was copied."""
    try:
        return one == other
    except Exception:  # values that cannot be compared are not the same ones
        return False
