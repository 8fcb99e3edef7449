"""Whether an agent's run that its model failed in is tried again, and when. Pure: time and luck are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ramure.agents.models.errors import ModelFailure
from ramure.supervisors.backoff import Backoff

__all__ = ["ANSWERS", "BACKOFF", "Answer", "Decision", "Retries"]

Answer = Literal["retry", "end", "ignore"]
"""What becomes of a run that failed: it is tried again; its error is final; it is over, and the agent lives."""

ANSWERS: Final[tuple[Answer, ...]] = ("retry", "end", "ignore")

BACKOFF: Final = Backoff(first=2.0, factor=2.0, limit=60.0, jitter=0.5)
"""Between the tries of a run. pi has tried several times itself before each; the jitter parts agents that failed together."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a run, and, where it is tried again, after how many seconds."""

    answer: Answer
    delay: float = 0.0


class Retries:
    """The failures of one agent's model since it last got on. ``retry_for``: seconds after the first of them."""

    def __init__(self, retry_for: float, backoff: Backoff = BACKOFF) -> None:
        self.retry_for = retry_for
        self.attempt: int = 0
        """How many runs in a row have failed."""
        self._backoff = backoff
        self._since: float | None = None

    def on_error(self, now: float) -> None:
        """The model has failed: pi may try again by itself."""
        if self._since is None:
            self._since = now

    def on_failed(self, now: float) -> None:
        """A run has failed: pi has given up."""
        self.on_error(now)
        self.attempt += 1

    def reset(self) -> None:
        """The model got on, or somebody took over: what comes is not the same trouble."""
        self.attempt = 0
        self._since = None

    def elapsed(self, now: float) -> float:
        """Seconds since the first failure."""
        return 0.0 if self._since is None else max(0.0, now - self._since)

    def decide(self, failure: ModelFailure, now: float, luck: float) -> Decision:
        """What to do about the run that has just failed. ``luck`` is from 0 to 1."""
        if failure.kind == "aborted":
            return Decision("ignore")
        left = self.retry_for - self.elapsed(now)
        if failure.kind == "permanent" or left <= 0 or (failure.retry_after or 0.0) > left:
            return Decision("end")
        # The last try is when the time is up: what is left of it is waited for.
        return Decision("retry", min(left, self.delay(failure, luck)))

    def delay(self, failure: ModelFailure, luck: float) -> float:
        """Seconds until the next try: what the provider asks for at least, and never all agents at one moment."""
        own = self._backoff.delay(max(1, self.attempt), luck)
        return own if failure.retry_after is None else max(own, failure.retry_after + luck)
