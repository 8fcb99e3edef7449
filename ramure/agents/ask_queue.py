"""The questions to an agent (``agent.ask``): one is in its conversation at a time, the others wait. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramure.agents.errors import Interrupted, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ramure.actors import Ask

__all__ = ["AskQueue"]


@dataclass(slots=True)
class _Question:
    caller: Ask
    text: str
    seq: int = 0
    """The message whose run answers it; 0 until it is put."""


class AskQueue:
    """``put(text)`` appends a message to the log and returns its seq."""

    def __init__(self, agent: str, put: Callable[[str], int]) -> None:
        self._agent = agent
        self._put = put
        self._waiting: deque[_Question] = deque()

    @property
    def waiting(self) -> bool:
        """True while somebody waits for an answer."""
        return any(not question.caller.future.done() for question in self._waiting)

    def ask(self, caller: Ask, text: str) -> None:
        """A new question; it is put when those before it are answered."""
        self._waiting.append(_Question(caller, text))
        self._next()

    def waits_for(self, run: dict[str, Any]) -> bool:
        """Whether somebody waits for the answer of this run."""
        return self._is_of(run) and not self._waiting[0].caller.future.done()

    def _is_of(self, run: dict[str, Any]) -> bool:
        return bool(self._waiting) and self._waiting[0].seq in (run.get("seqs") or ())

    def on_run_end(self, run: dict[str, Any], error: ModelError | None) -> None:
        """A run of the model has ended, with ``error`` if that failed: it answers the question that it took in."""
        if not self._is_of(run):
            return
        caller = self._waiting.popleft().caller
        if error is not None:
            caller.fail(error)
        elif run.get("stop_reason") == "aborted":
            caller.fail(Interrupted(self._agent))
        else:
            caller.reply(str(run.get("text") or ""))
        self._next()

    def on_lost(self, seqs: Collection[int]) -> None:
        """These messages are not in the conversation any more, and will not be: a person has begun another."""
        if self._waiting and self._waiting[0].seq in seqs:
            self._waiting.popleft().caller.fail(Interrupted(self._agent))
            self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0].seq == 0 and self._waiting[0].caller.future.done():
            self._waiting.popleft()  # who asked has given up, and nobody else has seen it
        if self._waiting and self._waiting[0].seq == 0:
            question = self._waiting[0]
            question.seq = self._put(question.text)
