"""What an agent's model has done with its turns: its last words, the tools that it has called, who wrote to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ramure.clock import Clock

__all__ = ["Turns"]

NUDGE: Final = "[ramure continue]"
"""How a message begins that the extension itself has typed (``extension/conversation.ts``): no person did."""


class Turns:
    """Follows one agent, across restarts. Times are seconds of the clock that is given (``monotonic``)."""

    def __init__(self) -> None:
        self.prompted: bool = False
        """True when anybody has sent it a message."""
        self.said: str | None = None
        """The last text of its last run; None before the first has ended, "" for an empty reply."""
        self.stopped: str | None = None
        """Why its last run ended, where not in good order: ``interrupted``, or the model's error."""
        self.called: set[str] = set()
        """The names of the tools that it has called so far."""
        self.answered: bool = False
        """True from the end of a run to the next message or run: pi says a moment later that it is idle."""
        self.progress: int = 0
        """Grows with each call of a tool of the run and each message, reminders excepted."""
        self.person_at: float | None = None
        """When a person wrote to it last."""

    def on_message(self, origin: str, clock: Clock) -> None:
        """A message of the run's log: ``origin`` is who sent it."""
        self.prompted = True
        self.answered = False
        if origin != "ramure":
            self.progress += 1
        if origin == "person":
            self.person_at = clock.monotonic()

    def on_call(self, tool: str) -> None:
        """It calls a tool of the run."""
        self.called.add(tool)
        self.progress += 1

    def on_report(self, kind: str, data: Mapping[str, Any], clock: Clock) -> None:
        """A report of the extension."""
        if kind == "state" and data.get("state") == "busy":
            self.answered = False
        elif kind == "run_end":
            self.answered = True
            self.said = str(data.get("text") or "")
            aborted = data.get("stop_reason") == "aborted"
            self.stopped = str(data["error"]) if data.get("error") else "interrupted" if aborted else None
        elif kind == "user" and data.get("seq") is None and not str(data.get("text")).startswith(NUDGE):
            self.on_message("person", clock)  # typed into pi
