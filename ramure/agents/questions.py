"""The questions to an agent (``agent.ask``): one is in its conversation at a time, the others wait. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramure.agents.errors import Interrupted, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramure.actors import Ask

__all__ = ["Questions"]


@dataclass(slots=True)
class _Question:
    caller: Ask
    text: str
    seq: int | None = 0
    """The message whose run answers it; 0 until it is put, None while the agent is paused in the midst of it."""
    pausing: bool = False
    """True after the agent was paused, until the next run has ended: that end may be the pause's."""
    resumed: int = 0
    """The message that had the agent go on."""


class Questions:
    """``put(text)`` appends a message to the log and returns its seq."""

    def __init__(self, agent: str, put: Callable[[str], int]) -> None:
        self._agent = agent
        self._put = put
        self._waiting: deque[_Question] = deque()

    def ask(self, caller: Ask, text: str) -> None:
        """A new question; it is put when those before it are answered."""
        self._waiting.append(_Question(caller, text))
        self._next()

    def on_run_end(self, run: dict[str, Any]) -> None:
        """A run of the model has ended: it answers the question that it took in."""
        if not self._waiting:
            return
        question, aborted = self._waiting[0], run.get("stop_reason") == "aborted"
        paused, question.pausing = question.pausing and aborted, False
        if question.seq not in (run.get("seqs") or ()):
            return
        if paused:
            question.seq = question.resumed or None
            return
        self._waiting.popleft()
        if run.get("error"):
            question.caller.fail(ModelError(self._agent, str(run["error"])))
        elif aborted:
            question.caller.fail(Interrupted(self._agent))
        else:
            question.caller.reply(str(run.get("text") or ""))
        self._next()

    def on_pause(self) -> None:
        """What the model is doing is interrupted, and goes on after :meth:`on_resume`."""
        if self._waiting:
            self._waiting[0].pausing, self._waiting[0].resumed = True, 0

    def on_resume(self, seq: int) -> None:
        """The message ``seq`` has the model go on with what it was doing."""
        if self._waiting:
            question = self._waiting[0]
            if question.seq is None:
                question.seq = seq
            else:  # the interrupted run's end is still to come
                question.resumed = seq

    def _next(self) -> None:
        if self._waiting and self._waiting[0].seq == 0:
            question = self._waiting[0]
            question.seq = self._put(question.text)
