"""One step of the core in the making: the fields of the state, open for change, and the effects so far.

Pure: no clock, no asyncio, no I/O. A turn lives for one call of ``step``; what came in is never changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from typing import Any, Literal

from ramure.exits import KILLED, SHUTDOWN, is_clean
from ramure.supervisors.backoff import Backoff
from ramure.supervisors.messages import (
    CancelTimer,
    CrashReport,
    Effect,
    Event,
    EventKind,
    Refuse,
    Removed,
    Reply,
    RetryTimer,
    SetTimer,
    Start,
    Stop,
    StopTimer,
    SupervisorEvent,
)
from ramure.supervisors.pmap import PMap
from ramure.supervisors.spec import ChildSpec, Flags
from ramure.supervisors.state import Child, Group, Pending, Phase, Restarts, State, Waiting, in_order
from ramure.supervisors.strategies import SIMPLE_ONE_FOR_ONE

__all__ = ["Turn"]

Why = Literal["group", "restart", "start_child", "restart_child"]


class Turn:
    """The fields of :class:`State`, and the primitive acts that change them and say so in effects."""

    def __init__(self, state: State, at: float) -> None:
        self.at = at
        self.flags: Flags
        self.children: PMap[Hashable, Child]
        self.phase: Phase
        self.restarts: Restarts
        self.next_serial: int
        self.seed: int
        self.group: Group | None
        self.pending: Pending | None
        self.deferred: tuple[Event, ...]
        self.queue: tuple[Waiting, ...]
        self.reason: Any
        self.template: ChildSpec | None
        (
            self.flags, self.children, self.phase, self.restarts, self.next_serial, self.seed, self.group,
            self.pending, self.deferred, self.queue, self.reason, self.template,
        ) = state  # fmt: skip
        self.dynamic: bool = self.flags.strategy == SIMPLE_ONE_FOR_ONE
        self.effects: list[Effect] = []

    def freeze(self) -> State:
        return State(
            self.flags,
            self.children,
            self.phase,
            self.restarts,
            self.next_serial,
            self.seed,
            self.group,
            self.pending,
            self.deferred,
            self.queue,
            self.reason,
            self.template,
        )

    @property
    def busy(self) -> bool:
        """True before Boot and while a start or a group is under way: what needs a decision about children waits."""
        return self.group is not None or self.pending is not None or self.phase == "new"

    # -------------------------------------------------------------- places

    def put(self, child: Child) -> Child:
        self.children = self.children.put(child.key, child)
        return child

    def remove(self, child: Child) -> None:
        self.children = self.children.remove(child.key)
        self.effects.append(Removed(child.key, child.ref))

    def order(self) -> tuple[Hashable, ...]:
        """The children's keys in start order."""
        return tuple(child.key for child in in_order(self.children))

    def new_serial(self) -> int:
        serial = self.next_serial
        self.next_serial += 1
        return serial

    def settle(self, child: Child) -> None:
        """The child has no process now and none is planned: its place stays, unless it is temporary or dynamic
        (as OTP's supervisor, del_child)."""
        for call in child.waiters:
            self.reply(call, None)
        if self.dynamic or child.spec.restart == "temporary":
            self.remove(child)
        else:
            self.put(child._replace(status="undefined", waiters=(), again=False))

    # -------------------------------------------------------------- processes

    def start(self, child: Child, why: Why, call: Hashable = None) -> None:
        """Start a process for the child; its outcome is the next event but for news that is put off."""
        serial = self.new_serial()
        self.put(child.starting(serial))
        self.pending = Pending(child.key, serial, why, call)
        self.effects.append(Start(child.key, serial, child.spec))

    def stop(self, child: Child, waiters: tuple[Hashable, ...] = ()) -> None:
        """Tell a running child to end; its Exited comes later."""
        self.put(child._replace(status="stopping", waiters=waiters))
        shutdown = child.spec.shutdown
        signal: Literal["shutdown", "kill"] = "kill" if shutdown == "brutal_kill" else "shutdown"
        self.effects.append(Stop(child.key, child.serial, child.ref, signal))
        if isinstance(shutdown, (int, float)):
            self.effects.append(SetTimer(StopTimer(child.key, child.serial), shutdown))

    def stopped(self, child: Child, reason: object) -> None:
        """A child that was told to end has ended."""
        if isinstance(child.spec.shutdown, (int, float)):
            self.effects.append(CancelTimer(StopTimer(child.key, child.serial)))
        if not _as_told(child, reason):
            self.report("shutdown_error", child, reason, "none: it was being stopped")
        if child.again and self.phase == "running":
            for call in child.waiters:
                self.reply(call, None)
            self.notify("restarting", child, reason)
            self.retry(child._replace(again=False, waiters=()), reason, 0.0, counted=True)
            return
        self.notify("child_ended", child, reason)
        self.settle(child)

    def retry(self, child: Child, reason: object, delay: float, *, counted: bool = False) -> None:
        """Start the child again after ``delay`` seconds; with 0, after what is in the mailbox now."""
        self.put(child._replace(status="restarting", reason=reason, counted=counted))
        self.effects.append(SetTimer(RetryTimer(child.key, child.serial), delay))

    def end_retries(self, child: Child) -> None:
        """Give up on a child that waits to be started again."""
        self.effects.append(CancelTimer(RetryTimer(child.key, child.serial)))
        self.settle(child)

    def count_restart(self) -> bool:
        """Note a restart; False when that is more than the intensity allows (as OTP's, add_restart)."""
        self.restarts = _counted(self.restarts, self.at, self.flags.period)
        return self.restart_count() <= self.flags.intensity

    def count_own(self, child: Child) -> tuple[Child, bool]:
        """The same for one child, where its specification limits its restarts."""
        intensity = child.spec.intensity
        if intensity is None:
            return child, True
        child = child._replace(restarts=_counted(child.restarts, self.at, child.spec.period))
        return child, _count(child.restarts) <= intensity

    def restart_count(self) -> int:
        """Restarts in the window."""
        return _count(self.restarts)

    def backoff(self, child: Child) -> Backoff | None:
        return child.spec.backoff or self.flags.backoff

    def recovered(self, child: Child) -> bool:
        """True when a child that ends now ran long enough for its restarts in a row to be over."""
        backoff = self.backoff(child)
        uptime = self.at - child.started_at
        return uptime > self.flags.period if backoff is None else backoff.forgotten(uptime)

    def delay(self, child: Child, attempt: int) -> float:
        """Seconds before the child's restart number ``attempt`` in a row."""
        backoff = self.backoff(child)
        if backoff is None:
            return 0.0
        return backoff.delay(attempt, random.Random(f"{self.seed}:{child.serial}").random())

    # -------------------------------------------------------------- answers and news

    def reply(self, call: Hashable, answer: object) -> None:
        self.effects.append(Reply(call, answer))

    def refuse(self, call: Hashable, error: Exception) -> None:
        self.effects.append(Refuse(call, error))

    def notify(self, kind: EventKind, child: Child, reason: object = None, delay: float = 0.0) -> None:
        self.effects.append(
            SupervisorEvent(kind, child.spec.id, child.ref, reason, child.incarnation, child.attempt, delay)
        )

    def report(
        self,
        context: Literal["child_terminated", "start_error", "shutdown_error"],
        child: Child,
        reason: object,
        action: str,
    ) -> None:
        flags, spec = self.flags, child.spec
        limit = (self.restart_count(), flags.intensity, flags.period)
        if spec.intensity is not None:
            limit = (_count(child.restarts), spec.intensity, spec.period)
        self.effects.append(
            CrashReport(context, spec.id, child.ref, reason, action, child.incarnation, child.attempt, *limit)
        )


def _counted(restarts: Restarts, at: float, period: float) -> Restarts:
    """The restarts within ``period`` seconds, and one more now (as OTP's supervisor, add_restart)."""
    now = math.floor(at)
    kept = [entry for entry in restarts if entry[0] >= now - period]
    if kept and kept[0][0] == now:
        kept[0] = (now, kept[0][1] + 1)
    else:
        kept.insert(0, (now, 1))
    return tuple(kept)


def _count(restarts: Restarts) -> int:
    return sum([count for _, count in restarts])


def _as_told(child: Child, reason: object) -> bool:
    """True for an end that a stop is expected to have (as OTP's supervisor, shutdown/1)."""
    if child.spec.restart != "permanent" and is_clean(reason):
        return True
    return reason == (KILLED if child.spec.shutdown == "brutal_kill" else SHUTDOWN)
