"""The alarms of a run whose disk is full: the disk of its logs, or that of an agent's conversation."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ramure.errors import OperationalError
from ramure.masking import get_logger

if TYPE_CHECKING:
    from ramure.machines.base import Machine

AGAIN: Final = 10.0
"""Seconds within which an alarm that comes again is the same one: the room was not enough for what was to be written."""

__all__ = ["LOGS", "Alarms", "DiskFull", "Room"]

logger: logging.Logger = get_logger("ramure.runtime")

LOGS: Final = "the logs"
"""What cannot be written, where that is not an agent's conversation."""


class DiskFull(OperationalError):
    """The disk of the logs, or of an agent's conversation, has had no room for longer than the run was to wait (for
    ``seconds``), or has none when a run begins."""

    def __init__(self, text: str, path: str, seconds: float = 0.0) -> None:
        self.path = path
        self.seconds = seconds
        super().__init__(text)

    @classmethod
    def for_long(cls, of: str, path: str, seconds: float, reason: str) -> DiskFull:
        """The limit is over."""
        elsewhere = ", or give the run another place with log_dir=" if of == LOGS else ""
        text = f"{of} could not be written for {seconds:.3g} s ({reason}): make room on the disk of {path}{elsewhere}"
        return cls(text, path, seconds)

    @classmethod
    def at_start(cls, path: str, needed: int, reason: str) -> DiskFull:
        """A run cannot begin."""
        text = (
            f"there is no room for a run in {path} ({reason}; {needed:,} bytes are needed to begin): make room on that "
            "disk, or give the run another place with log_dir= or RAMURE_HOME"
        )
        return cls(text, path)


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """The alarm of a full disk: it began (``full``), or is over."""

    of: str
    """What cannot be written: :data:`LOGS`, or the conversation of an agent."""
    path: str
    """The directory, with its machine where that is not this host."""
    full: bool
    seconds: float
    """How long it has lasted."""
    reason: str
    needed: int
    """Bytes that are needed at least to go on."""

    def __str__(self) -> str:
        return f"{self.path}: no room for {self.of} ({self.reason}); {self.needed:,} bytes are needed to go on"


class Alarms:
    """The alarms that stand; for the event loop. Each has the same limit.

    ``tell(type, data)`` puts an entry into the run's log and an event into each agent's stream. ``fail`` ends the run. The
    log writer watches its limit itself: it may have to while the loop stands still.
    """

    def __init__(
        self, limit: float, tell: Callable[[str, dict[str, Any]], None], fail: Callable[[Exception], None]
    ) -> None:
        self.standing: dict[str, Room] = {}
        self._limit = limit
        self._tell = tell
        self._fail = fail
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._began: dict[str, float] = {}
        self._lasted: dict[str, tuple[float, float]] = {}
        """When the last alarm ended, and how long it and those just before it have lasted."""
        self._over = False
        """The limit is over: that agents end does not mean that there is room."""

    def as_text(self) -> list[str]:
        """For people, a line each."""
        return [f"disk full: {room}; the run fails after {self._limit:g} s of it" for room in self.standing.values()]

    def on_room(self, room: Room) -> None:
        """A disk is full, or has room again."""
        if self._over or room.full == (room.of in self.standing):
            return  # pi was started again meanwhile, and says it once more
        data = {"alarm": "disk_full", "of": room.of, "path": room.path, "seconds": round(room.seconds, 3)}
        if room.full:
            self.standing[room.of] = room
            logger.warning("%s; delivery waits, the run fails in %g s", room, self._limit)
            self._tell("alarm", {**data, "reason": room.reason, "needed": room.needed, "limit": self._limit})
        else:
            del self.standing[room.of]
            logger.warning("%s: there is room for %s again, after %.1f s", room.path, room.of, room.seconds)
            self._tell("alarm_over", data)

    def on_session(self, address: str, report: Mapping[str, Any], machine: Machine | None) -> None:
        """An agent's pi, on ``machine``, says whether it can write its session file; ``report`` is of the kind ``disk``."""
        loop, of = asyncio.get_running_loop(), f"the conversation of agent {address!r}"
        if report["full"]:
            path = report["path"] if machine is None or machine.here else f"{report['path']} on {machine.describe()}"
            room = Room(of, path, True, 0.0, report["reason"], report["needed"])
            if of not in self.standing:
                ended, lasted = self._lasted.get(of, (-math.inf, 0.0))
                left = self._limit - (lasted if loop.time() - ended < AGAIN else 0.0)
                self._began[of] = loop.time()
                self._timers[of] = loop.call_later(max(left, 0.0), self._too_long, room)
            self.on_room(room)
        elif timer := self._timers.pop(of, None):
            timer.cancel()
            ended, lasted = self._lasted.get(of, (-math.inf, 0.0))
            began, now = self._began.pop(of), loop.time()
            self._lasted[of] = now, now - began + (lasted if began - ended < AGAIN else 0.0)
            self.on_room(dataclasses.replace(self.standing[of], full=False, seconds=now - began))

    def _too_long(self, room: Room) -> None:
        self._over = True
        self._fail(DiskFull.for_long(room.of, room.path, self._limit, room.reason))

    def close(self) -> None:
        """The run ends; nothing is awaited any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
