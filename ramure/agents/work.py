"""What an agent is at, and how much of its time it works: for people who look at a run. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ramure.agents.tools.call_text import call_text

__all__ = ["AT_WORK", "UnderWay", "Work"]

AT_WORK: Final = ("busy", "waiting_for_model")
"""States of an agent that has something under way."""

MOST_TOOLS: Final = 1000
"""Calls under way that are remembered."""

LONGEST: Final = 400
"""Characters of a call that are kept."""

MINUTE: Final = 60.0

MOST_ANSWERS: Final = 600
"""Answers of the model within a minute that are remembered one by one; of more, the oldest count as one."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A tool call that has begun and not ended."""

    name: str
    text: str
    """In a line."""
    since: float
    """Seconds since 1970."""


class Work:
    """Follows one agent, across restarts. ``now`` is in seconds of the run's clock (``monotonic``), ``at`` in seconds
    since 1970."""

    def __init__(self) -> None:
        self._tools: dict[str, UnderWay] = {}  # by pi's id of the call
        self._answers: deque[tuple[float, int]] = deque()
        self._worked = 0.0
        self._began: float | None = None  # when it set to work, while it works
        self.since: float | None = None
        """When what it was at last ended, in seconds since 1970: from then on its model has the turn."""
        self.model_error: str | None = None
        """Why its model failed last, in the provider's words, until it answers."""

    # -- tools --------------------------------------------------------------------------------------------------------

    def on_tool(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        """pi has begun or ended a call of a tool, its own or the run's."""
        call_id = str(data.get("tool_call_id"))
        if kind == "tool_start":
            if len(self._tools) < MOST_TOOLS:
                text = call_text(data.get("name"), data.get("arguments"), LONGEST)
                self._tools[call_id] = UnderWay(str(data.get("name")), text, at)
        else:
            self._tools.pop(call_id, None)
            self.since = at

    def on_down(self) -> None:
        """pi has ended: nothing is under way."""
        self._tools.clear()
        self.since = None

    @property
    def tools(self) -> list[UnderWay]:
        """The calls under way, in order of their start."""
        return list(self._tools.values())

    # -- time and tokens ----------------------------------------------------------------------------------------------

    def on_state(self, state: str, now: float) -> None:
        """It has come into this state."""
        works = state in AT_WORK
        if works and self._began is None:
            self._began, self.since = now, None
        elif not works and self._began is not None:
            self._worked += now - self._began
            self._began = None

    def worked(self, now: float) -> float:
        """Seconds that it has worked so far, waits for its model included."""
        return self._worked + (now - self._began if self._began is not None else 0.0)

    def on_tokens(self, count: int, now: float) -> None:
        """An answer of its model has used so many tokens."""
        self._forget(now)
        if len(self._answers) >= MOST_ANSWERS:
            _, oldest = self._answers.popleft()
            at, next_oldest = self._answers.popleft()
            self._answers.appendleft((at, oldest + next_oldest))
        self._answers.append((now, count))

    def tokens_a_minute(self, now: float) -> int:
        """Tokens of the last minute."""
        self._forget(now)
        return sum(count for _, count in self._answers)

    def _forget(self, now: float) -> None:
        while self._answers and now - self._answers[0][0] >= MINUTE:
            self._answers.popleft()
