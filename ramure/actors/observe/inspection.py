"""Looking into actors while they run, as OTP's ``sys`` and ``process_info``.

What the kernel itself knows (:func:`info`) is read at once. What needs the actor's own turn
(:func:`get_state`, :func:`suspend` …) waits behind the messages that are queued already, as in OTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ramure.actors._kernel.body import BodyCell
from ramure.actors._kernel.cell import SUSPENDED, Cell, State, fail_future
from ramure.actors._kernel.server import ServerCell
from ramure.actors._kernel.threads import AbandonedThread
from ramure.actors.messages import SysRequest
from ramure.actors.observe.tracing import Counter, Recent, TraceEvent, unwatch, watch
from ramure.actors.ref import DEFAULT_TIMEOUT, Ref
from ramure.errors import ActorDied, AskTimeout, UsageError, WouldDeadlock
from ramure.exits import NOPROC

if TYPE_CHECKING:
    from ramure.actors.system import ActorSystem

R = TypeVar("R")
W = TypeVar("W", Counter, Recent)

__all__ = [
    "ActorInfo",
    "Leaks",
    "Statistics",
    "get_state",
    "info",
    "record",
    "recorded",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was counted since :func:`statistics` was switched on."""

    since: float
    """Wall-clock time of switching on, seconds since 1970."""
    messages_in: int
    handled: int
    replied: int
    signals: int
    busy: float
    """Seconds between taking messages and being done with them, waits of handlers included."""
    longest: float
    """The most seconds that one message took."""


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """What the kernel knows about an actor, at one moment."""

    ref: Ref[Any]
    id: int
    kind: str
    name: str | None
    label: str
    state: State
    phase: Literal["starting", "running", "stopping"]
    current: object
    """The message that is being handled, or None."""
    queue_length: int
    dropped: int
    """Messages that found no room in a mailbox with a limit."""
    trap_exit: bool
    parent: Ref[Any] | None
    links: tuple[Ref[Any], ...]
    monitors: tuple[Ref[Any], ...]
    monitored_by: tuple[Ref[Any], ...]
    started_at: float
    """Wall-clock time of its start, seconds since 1970."""
    thread: int | None
    """The ident of a threaded actor's thread."""
    reason: object
    """Why it ended, when it is dead."""
    statistics: Statistics | None


@dataclass(frozen=True, slots=True)
class Leaks:
    """What of a system is left. False when nothing is."""

    actors: tuple[Ref[Any], ...]
    threads: tuple[AbandonedThread, ...]
    """Threads of dead actors, stuck in a blocking call."""
    tasks: tuple[str, ...]
    """Tasks of actors (``start_task``) that have not ended."""

    def __bool__(self) -> bool:
        return bool(self.actors or self.threads or self.tasks)


def info(ref: Ref[Any]) -> ActorInfo:
    """Read at once what the kernel knows (``process_info/1``); also of a dead actor. From any thread."""
    return ref._cell.system.call(_info, ref._cell)


def _info(cell: Cell) -> ActorInfo:
    thread = getattr(cell, "thread", None)
    return ActorInfo(
        ref=cell.ref,
        id=cell.number,
        kind=cell.kind,
        name=cell.names[0] if cell.names else None,
        label=cell.label,
        state=cell.state,
        phase=cell.phase,
        current=cell.current,
        queue_length=len(cell.queue),
        dropped=cell.dropped,
        trap_exit=cell.trap_exit,
        parent=cell.parent.ref if cell.parent is not None else None,
        links=tuple(other.ref for other in cell.links or ()),
        monitors=tuple(m._target.ref for m in cell.monitoring or () if m._target is not None),
        monitored_by=tuple(m._owner.ref for m in cell.monitors or ()),
        started_at=cell.started_at,
        thread=thread.ident if thread is not None else None,
        reason=cell.reason,
        statistics=_statistics(cell),
    )


def record(ref: Ref[Any], on: bool = True, *, limit: int = 20) -> None:
    """Keep the newest ``limit`` messages and signals of an actor from now on, and its statistics; or stop that. At
    once, as :func:`info`."""
    ref._cell.system.call(_record, ref._cell, on, limit)


def recorded(ref: Ref[Any]) -> tuple[TraceEvent, ...] | None:
    """What :func:`record` has kept, oldest first; None where nothing is recorded."""
    recent = _watcher(ref._cell, Recent)
    return None if recent is None else tuple(recent.events)


def _record(cell: Cell, on: bool, limit: int) -> None:
    recent, counter = _watcher(cell, Recent), _watcher(cell, Counter)
    if on:
        watch(cell, recent or Recent(limit))
        watch(cell, counter or Counter(cell.system.clock.wall()))
    else:
        for watcher in (recent, counter):
            if watcher is not None:
                unwatch(cell, watcher)


def leaks(system: ActorSystem) -> Leaks:
    """What of ``system`` is left; nothing, once it was closed."""
    return Leaks(
        tuple(system.actors()),
        tuple(system.threads.abandoned()),
        tuple(task.get_name() for task in system.tasks if not task.done()),
    )


# -- in the actor's turn ------------------------------------------------------------------------------------


async def get_state(ref: Ref[Any], *, timeout: float | None = DEFAULT_TIMEOUT) -> dict[str, Any]:
    """The actor's attributes, as a new dict (``sys:get_state``); of a function, its local variables.

    Raises :class:`~ramure.errors.ActorDied`, and :class:`~ramure.errors.AskTimeout` when the actor's turn
    did not come within ``timeout`` seconds; so do the others below.
    """
    return await _request(ref, "get_state", lambda cell: dict(_state(cell)), timeout)


async def replace_state(
    ref: Ref[Any],
    function: Callable[[dict[str, Any]], Mapping[str, Any]],
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> dict[str, Any]:
    """Replace the actor's attributes by ``function(attributes)`` and return them (``sys:replace_state``).

    What ``function`` raises is raised here, and the actor goes on with the state that it had.
    """

    def replace(cell: Cell) -> dict[str, Any]:
        if isinstance(cell, BodyCell):
            raise UsageError(f"{cell.label} runs a function: its local variables cannot be replaced")
        new = dict(function(dict(_state(cell))))
        attributes = vars(_object(cell))
        kept = {name: attributes[name] for name in attributes if name in _KERNEL}
        attributes.clear()
        attributes.update(kept | new)
        return dict(new)

    return await _request(ref, "replace_state", replace, timeout)


async def suspend(ref: Ref[Any], *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """Have it handle no messages, only these requests and its parent's EXIT, until :func:`resume`
    (``sys:suspend``). Exit signals that it does not trap still end it."""

    def set_flag(cell: Cell) -> None:
        if isinstance(cell, BodyCell):
            raise UsageError(f"{cell.label} runs a function, which receives when it likes: it cannot be suspended")
        cell.flags |= SUSPENDED

    await _request(ref, "suspend", set_flag, timeout)


async def resume(ref: Ref[Any], *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
    """Undo :func:`suspend` (``sys:resume``); nothing happens when it was not suspended."""

    def clear_flag(cell: Cell) -> None:
        cell.flags &= ~SUSPENDED

    await _request(ref, "resume", clear_flag, timeout)


async def statistics(
    ref: Ref[Any], do: Literal["on", "off", "get"] = "get", *, timeout: float | None = DEFAULT_TIMEOUT
) -> Statistics | None:
    """Switch counting on or off, or get what was counted: None when it is off (``sys:statistics``)."""
    if do not in ("on", "off", "get"):
        raise UsageError(f"statistics(ref, {do!r}): use 'on', 'off' or 'get'")

    def change(cell: Cell) -> Statistics | None:
        result = _statistics(cell)
        if do == "on" and result is None:
            watch(cell, Counter(cell.system.clock.wall()))
        if do == "off" and (counter := _watcher(cell, Counter)) is not None:
            unwatch(cell, counter)
        return result

    return await _request(ref, f"statistics {do}", change, timeout)


async def _request(ref: Ref[Any], what: str, function: Callable[[Cell], R], timeout: float | None) -> R:
    cell = ref._cell
    if asyncio.get_running_loop() is not cell.loop:
        return await cell.system.await_there(_request(ref, what, function, timeout))
    if cell.dead:
        raise ActorDied(cell.label, NOPROC)
    if isinstance(cell, ServerCell) and asyncio.current_task() is cell:  # type: ignore[comparison-overlap]
        raise WouldDeadlock((cell.label, cell.label))
    future: asyncio.Future[R] = cell.loop.create_future()
    request = SysRequest(function, future)
    cell.deliver(request)
    timer = None
    if timeout is not None:
        late = AskTimeout(cell.label, what, timeout, str(cell.doing() or ""))
        timer = cell.system.clock.call_later(timeout, lambda: fail_future(future, late))
    try:
        return await future
    except (AskTimeout, asyncio.CancelledError):
        cell.remove_from_queue(lambda message: message is request)  # nobody waits for it: do not pile up
        raise
    finally:
        if timer is not None:
            timer.cancel()


# Attributes of actors that are the runtime's or pykka's, not the user's state.
_KERNEL: Final = ("_cell", "_create_actor_inbox", "_actor_ref", "actor_inbox", "actor_stopped", "actor_urn")
"""Attributes of actors that are the runtime's, not the user's state."""


def _object(cell: Cell) -> Any:
    threaded = getattr(cell, "object", None)
    return threaded if threaded is not None else cell.actor if isinstance(cell, ServerCell) else None


def _state(cell: Cell) -> dict[str, Any]:
    if isinstance(cell, BodyCell):
        frame = getattr(cell.coro, "cr_frame", None)
        return dict(frame.f_locals) if frame is not None else {}
    return {name: value for name, value in vars(_object(cell)).items() if name not in _KERNEL}


def _watcher(cell: Cell, kind: type[W]) -> W | None:
    watchers = cell.probe.watchers if cell.probe is not None else ()
    return next((w for w in watchers if isinstance(w, kind)), None)


def _statistics(cell: Cell) -> Statistics | None:
    counter = _watcher(cell, Counter)
    if counter is None:
        return None
    return Statistics(
        counter.since,
        counter.sent,
        counter.handled,
        counter.replied,
        counter.signals,
        counter.busy,
        counter.longest,
    )
