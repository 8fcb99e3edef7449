"""What a run keeps to show of itself: its last events, its machines and connections, what its agents have used."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.agents.requests import Usage
from ramure.exits import format_exit

if TYPE_CHECKING:
    from ramure.runtime.process.record import AgentRecord, MachineRecord, Outcome

__all__ = ["Connection", "RunStatistics"]

RECENT: Final = 50
"""Entries of the run's log that are kept to be shown; the log has them all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """``connect(one, other, direction, files=files)``."""

    one: AgentRecord
    other: AgentRecord
    direction: Literal["both", "forward"]
    files: str


class RunStatistics:
    """Written by the run's actors, read by ``ramure status``."""

    def __init__(self) -> None:
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        self.machines: dict[str, MachineRecord] = {}
        self.connections: list[Connection] = []
        self.program: str | None = None
        """The name of the first root process."""
        self.outcome: Outcome | None = None
        """That of the last root process that has ended."""
        self.paused = False
        """Whether agents that are started now begin paused."""
        self._ended = Usage()
        self.agents_ended: int = 0

    def agent_ended(self, record: AgentRecord) -> None:
        """Keep what is to be kept of an agent that is gone."""
        self.agents_ended += 1
        self._ended.take(record.usage)
        self.connections = [each for each in self.connections if record not in (each.one, each.other)]

    def usage(self, live: Mapping[str, AgentRecord]) -> Usage:
        """Tokens and cost of the whole run."""
        total = Usage()
        total.take(self._ended)
        for record in live.values():
            total.take(record.usage)
        return total

    def ending(self, seconds: float, live: Mapping[str, AgentRecord], failure: object) -> dict[str, Any]:
        """The last entry of the run's log. ``failure`` is why the run could not go on, where it could not."""
        outcome = self.outcome
        if failure is not None:
            kind, reason = "failed", format_exit(failure)
        elif outcome is None:
            kind, reason = "cancelled", None
        else:
            kind, reason = outcome.kind, outcome.text() if outcome.kind != "done" else None
        return {
            "outcome": kind,
            "reason": reason,
            "program": self.program,
            "seconds": round(seconds, 3),
            "agents": self.agents_ended + len(live),
            "usage": self.usage(live).totals(),
        }
