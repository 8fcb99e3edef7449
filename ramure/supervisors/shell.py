"""The actor around the core: carries its effects out, and brings it the news.

No decision is taken here. Handlers never wait for a child's end, so that calls are answered while one is
stopping; they do wait for a child's start, as OTP's supervisor does.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ramure.actors import NO_REPLY, Actor, Ask, Down, Exit, Ref, Stop, Timer
from ramure.actors.observe.reports import CrashReport
from ramure.clock import TimerHandle
from ramure.faults import failure_of
from ramure.masking import get_logger
from ramure.supervisors import messages as m
from ramure.supervisors.calls import read
from ramure.supervisors.core import step
from ramure.supervisors.errors import InvalidSpec
from ramure.supervisors.report import format_report
from ramure.supervisors.spec import ChildSpec, Flags
from ramure.supervisors.starting import start_child
from ramure.supervisors.state import State, new
from ramure.tracebacks import fold

__all__ = ["Notice", "SupervisorShell"]

logger: logging.Logger = get_logger("ramure.supervisors")

Place = tuple[Hashable, int]
Listener = Callable[[m.SupervisorEvent], object]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a subscriber is sent: an event of this supervisor."""

    supervisor: Ref[Any]
    event: m.SupervisorEvent


@dataclass(frozen=True, slots=True)
class _Fired:
    timer: m.Timer


@dataclass(frozen=True, slots=True)
class _Forgotten:
    call: int


class SupervisorShell(Actor):
    """What :class:`Supervisor` and :class:`DynamicSupervisor` have in common."""

    async def _boot(self, flags: Callable[[], Flags], specs: Iterable[ChildSpec], on_event: Listener | None) -> None:
        """Start what is specified. Raises Stop with the reason when that fails, with nothing left running."""
        self.trap_exit = True
        self._places: dict[Ref[Any], Place] = {}
        self._stopping: dict[Ref[Any], Place] = {}
        self._timers: dict[m.Timer, Timer | TimerHandle | None] = {}
        self._calls: dict[Hashable, tuple[Ask, bool]] = {}
        self._last_call = 0
        self._subscribers: dict[Ref[Any], None] = {}
        self._listener = on_event
        self._waits_itself = False
        try:
            state = new(flags(), specs, seed=random.getrandbits(32))
        except InvalidSpec as error:
            raise Stop(error) from None
        if isinstance(state, InvalidSpec):
            raise Stop(state)
        self._state: State = state
        await self._feed(m.Boot(self._now()))
        if self._state.phase != "running":
            await self._stop_everything()
            raise Stop(self._state.reason)

    # -------------------------------------------------------------- news

    def handle_info(self, message: Any) -> Awaitable[None] | None:
        """Exits of children, and timers. What is from strangers is ignored, as OTP's supervisor does."""
        match message:
            case Exit(sender=Ref() as sender, reason=reason) | Down(sender=Ref() as sender, reason=reason):
                if (place := self._places.get(sender)) is not None:
                    return self._exited(sender, place, reason)
            case _Fired(timer=timer):
                if timer in self._timers:
                    del self._timers[timer]
                    return self._feed(m.TimerFired(timer, self._now()))
            case _Forgotten(call=call):
                return self._feed(m.Forget(call, self._now()))
            case Exit():
                pass
            case _:
                logger.warning("%s got an unexpected message: %r", self.ref.label, message)
        return None

    async def handle_stop(self, reason: object) -> None:
        """Stop every child, and end then; calls are answered meanwhile."""
        await self._feed(m.Terminate(reason, self._now()))

    async def terminate(self, reason: object) -> None:
        """Stop every child in order, where the supervisor ends without having been told to."""
        if self._state.phase != "ended":
            await self._feed(m.Terminate(reason, self._now()))
            await self._stop_everything()

    async def _stop_everything(self) -> None:
        """Wait for the children that are being stopped, and those after them: there is no mailbox now."""
        self._waits_itself = True
        for timer, running in list(self._timers.items()):
            left = running.cancel() if isinstance(running, Timer) else 0.0
            self._set_timer(timer, left or 0.0)
        while self._stopping:
            ref, place = next(iter(self._stopping.items()))
            await self._exited(ref, place, await ref.wait())

    # -------------------------------------------------------------- requests

    def handle_call(self, request: Any, caller: Ask) -> Any:
        """The requests of ``ramure.supervisors.messages``, answered with what stands there."""
        if isinstance(request, m.Request):
            return self._post(request, caller)
        return super().handle_call(request, caller)

    async def which_children(self) -> tuple[m.ChildInfo, ...]:
        """The children, last started first (a dynamic supervisor's: in order of starting)."""
        return read(self._state, m.WhichChildren())  # type: ignore[no-any-return]

    async def count_children(self) -> m.ChildCounts:
        """How many there are; see :class:`ChildCounts`."""
        return read(self._state, m.CountChildren())  # type: ignore[no-any-return]

    async def get_childspec(self, child: Hashable) -> ChildSpec:
        """The specification of a child, by id or (dynamic) by ref. Raises ChildNotFound."""
        return await self._answer(m.GetChildSpec(self._target(child)))  # type: ignore[no-any-return]

    async def subscribe(self, subscriber: Ref[Any]) -> None:
        """Send ``subscriber`` a :class:`Notice` of every event from now on."""
        self._subscribers[subscriber] = None

    async def unsubscribe(self, subscriber: Ref[Any]) -> None:
        """Undo :meth:`subscribe`."""
        self._subscribers.pop(subscriber, None)

    async def renew_child(self, child: Hashable) -> None:
        """Stop a running child, by id or by ref, and start it again, as its end by itself would; returns when it has
        ended. Not counted in the restart intensity. (OTP: terminate_child, then restart_child.)

        Raises ChildNotFound, ChildTemporary, ChildRestarting, ChildStopping, SupervisorStopping.
        """
        place = self._places.get(child) if isinstance(child, Ref) else None
        target = m.ByKey(place[0], child) if place is not None else self._target(child)
        return await self._answer(m.RenewChild(target))  # type: ignore[no-any-return]

    def _target(self, child: Hashable) -> m.Target:
        if not isinstance(child, Ref):
            return m.ById(child)
        place = self._places.get(child)
        if place is None or not self._state.dynamic:
            return m.Stray(child, child.is_alive())
        return m.ByKey(place[0], child)

    # -------------------------------------------------------------- the core

    async def _answer(self, request: m.Request, *, ref_only: bool = False) -> Any:
        """Put the request that is being handled to the core, which answers it now or later."""
        return await self._post(request, self._caller(), ref_only=ref_only)

    def _caller(self) -> Ask | None:
        """Who asked what is being handled; None when nobody waits for an answer."""
        handled = self._cell.current
        return handled if isinstance(handled, Ask) else None

    def _refuse(self, error: Exception) -> Any:
        if (caller := self._caller()) is not None:
            caller.fail(error)
        return NO_REPLY

    async def _post(self, request: m.Request, caller: Ask | None, *, ref_only: bool = False) -> Any:
        self._last_call = call = self._last_call + 1
        if caller is not None:
            self._calls[call] = (caller, ref_only)
            if isinstance(request, m.StartChild) and request.wait:
                caller.future.add_done_callback(lambda _: self._given_up(call))
        await self._feed(m.Call(call, request, self._now()))
        return NO_REPLY

    def _given_up(self, call: int) -> None:
        """Who waited for room waits no more."""
        if self._calls.pop(call, None) is not None and self.ref.is_alive():
            self.ref.tell(_Forgotten(call))

    async def _feed(self, event: m.Event) -> None:
        """Give the core an event and do what it wants done; the outcome of a start goes back into it."""
        following: m.Event | None = event
        while following is not None:
            self._state, effects = step(self._state, following)
            following = None
            for effect in effects:
                if isinstance(effect, m.Start):
                    following = await start_child(self.system, effect, self._now)
                    if isinstance(following, m.Started):
                        self._places.pop(self._state.children[effect.key].ref, None)
                        self._places[following.ref] = (effect.key, effect.serial)
                else:
                    _DO[type(effect)](self, effect)

    async def _exited(self, ref: Ref[Any], place: Place, reason: object) -> None:
        self._stopping.pop(ref, None)
        await self._feed(m.Exited(*place, reason, self._now()))
        child = self._state.children.get(place[0])
        if child is None or child.ref is not ref:
            self._places.pop(ref, None)

    def _do_report(self, effect: m.CrashReport) -> None:
        child, me = effect.ref, self.ref

        def text() -> str:
            return format_report(me.label, effect)

        place = me if child is None else child
        self.system.report(CrashReport(child, place, effect.id, effect.reason, text, effect.action, effect.attempt))

    def _do_stop(self, effect: m.Stop) -> None:
        ref = effect.ref
        if ref not in self._stopping:
            self._stopping[ref] = (effect.key, effect.serial)
            self.monitor(ref)  # one that unlinked itself is noticed all the same
        ref.exit(effect.signal)

    def _do_set_timer(self, effect: m.SetTimer) -> None:
        self._set_timer(effect.timer, effect.seconds)

    def _do_cancel_timer(self, effect: m.CancelTimer) -> None:
        running = self._timers.pop(effect.timer, None)
        if running is not None:
            running.cancel()

    def _do_reply(self, effect: m.Reply) -> None:
        if (waiting := self._calls.pop(effect.call, None)) is not None:
            caller, ref_only = waiting
            caller.reply(effect.answer.ref if ref_only else effect.answer)

    def _do_refuse(self, effect: m.Refuse) -> None:
        if (waiting := self._calls.pop(effect.call, None)) is not None:
            waiting[0].fail(effect.error)

    def _do_removed(self, effect: m.Removed) -> None:
        self._places.pop(effect.ref, None)

    def _do_end(self, effect: m.End) -> None:
        if not self._waits_itself:
            self.stop(effect.reason)

    def _do_ready(self, effect: m.Ready) -> None:
        """``init`` returns then."""

    def _set_timer(self, timer: m.Timer, seconds: float) -> None:
        if self._waits_itself:
            self._timers[timer] = self.system.clock.call_later(seconds, lambda: self._fired(timer))
        elif seconds:
            self._timers[timer] = self.send_after(seconds, _Fired(timer))
        else:
            self._timers[timer] = None
            self.ref.tell(_Fired(timer))  # after what is in the mailbox now, as OTP's "try again"

    def _fired(self, timer: m.Timer) -> None:
        """A timer has run out while the mailbox is not read: a child took too long to stop."""
        if self._timers.pop(timer, None) is not None:
            self._state, effects = step(self._state, m.TimerFired(timer, self._now()))
            for effect in effects:
                _DO[type(effect)](self, effect)

    def _do_event(self, event: m.SupervisorEvent) -> None:
        if self._listener is not None:
            try:
                self._listener(event)
            except BaseException as error:  # a listener's mistake must not cost the children
                failure_of(error)
                logger.error("%s: on_event raised for %r", self.ref.label, event, exc_info=fold(error))
        for subscriber in list(self._subscribers):
            if subscriber.is_alive():
                subscriber.tell(Notice(self.ref, event))
            else:
                del self._subscribers[subscriber]

    def _now(self) -> float:
        return self.system.clock.monotonic()


_DO: Final[dict[type, Callable[[SupervisorShell, Any], None]]] = {
    m.Stop: SupervisorShell._do_stop,
    m.SetTimer: SupervisorShell._do_set_timer,
    m.CancelTimer: SupervisorShell._do_cancel_timer,
    m.Reply: SupervisorShell._do_reply,
    m.Refuse: SupervisorShell._do_refuse,
    m.Removed: SupervisorShell._do_removed,
    m.End: SupervisorShell._do_end,
    m.Ready: SupervisorShell._do_ready,
    m.SupervisorEvent: SupervisorShell._do_event,
    m.CrashReport: SupervisorShell._do_report,
}
