"""The run's crash reports: one entry of type ``crash_report`` in its log for each abnormal end (docs/faults.md).

The kernel tells of an end at once, and the supervisor of what ended a little later, with what it does about it: the two
become one entry. An agent itself reports the deaths of its pi, since it knows more: the screen, the tools under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from ramure.actors import Ref
from ramure.actors.observe.reports import CrashReport
from ramure.agents.agent import AgentActor
from ramure.agents.pi.session import Session
from ramure.clock import Clock
from ramure.exits import format_exit
from ramure.tracebacks import format_traceback

__all__ = ["CrashReports"]

GATHER: Final = 0.2
"""Seconds that a supervisor has to say what it does about an end; who has none is reported then."""

NOTHING: Final = "nothing: it has no supervisor; those that are linked to it or monitor it are told"

OWNER_TOLD: Final = "the agent has ended: its owner is told, by AgentDied or on_exit"


class CrashReports:
    """Writes them with ``log(type, fields)``."""

    def __init__(self, clock: Callable[[], Clock], log: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._clock = clock
        self._log = log
        self._waiting: dict[Ref[Any], tuple[CrashReport, asyncio.TimerHandle]] = {}
        self._told: WeakKeyDictionary[object, object] = WeakKeyDictionary()

    def is_told(self, agent: Ref[Any], reason: object) -> None:
        """The agent is about to end with ``reason``, which it has reported itself."""
        self._told[agent._cell] = reason

    def add(self, report: CrashReport) -> None:
        """An actor has ended abnormally, or its supervisor says what it does about that."""
        ref = report.ref
        if _is(ref, Session) or (ref is not None and self._told.get(ref._cell) is report.reason):
            return
        if ref is None or report.did:
            self._write(self._take(ref) or report, report.did, report.attempt)
        else:
            timer = asyncio.get_running_loop().call_later(GATHER, self._unattended, ref)
            self._waiting[ref] = report, timer

    def flush(self) -> None:
        """Write those that still wait for their supervisor's word."""
        for ref in list(self._waiting):
            self._unattended(ref)

    def _take(self, ref: Ref[Any] | None) -> CrashReport | None:
        if ref is None or ref not in self._waiting:
            return None
        report, timer = self._waiting.pop(ref)
        timer.cancel()
        return report

    def _unattended(self, ref: Ref[Any]) -> None:
        report = self._take(ref)
        if report is not None:
            self._write(report, NOTHING, 0)

    def _write(self, report: CrashReport, did: str, attempt: int) -> None:
        ref = report.ref
        who, address = report.who, None
        if ref is not None:
            name = ref._cell.given_label or str(ref._cell.number)
            who = f"{ref._cell.kind} {name}"
            if _is(ref, AgentActor):
                who, address, did = f"agent {name}", name, OWNER_TOLD
        self._log(
            "crash_report",
            {
                "who": who,
                "address": address,
                "path": report.path,
                "doing": report.doing,
                "reason": format_exit(report.reason),
                "screen": None,
                "did": did,
                "attempt": attempt,
                "at": self._clock().wall(),
                "traceback": format_traceback(report.reason) or None,
            },
        )


def _is(ref: Ref[Any] | None, kind: type) -> bool:
    return ref is not None and issubclass(getattr(ref._cell, "actor_class", object), kind)
