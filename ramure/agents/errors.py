"""What can be wrong with an agent's pi, as the exit reasons of its session."""

from __future__ import annotations

from collections.abc import Sequence

from ramure.agents.models.errors import ModelFailure, remedy_for
from ramure.agents.models.words import brief
from ramure.errors import OperationalError, RequestRefused

__all__ = [
    "AgentEnded",
    "AnswerRefused",
    "HandlerTimeout",
    "Interrupted",
    "LaunchFailed",
    "MessageTooLarge",
    "ModelError",
    "NoModel",
    "PiExited",
    "ResultTooLarge",
    "ToolExists",
]


class AnswerRefused(OperationalError):
    """``agent.ask(text, result=T)``: the agent has not given an answer of the type in ``tries`` tries. ``reason``: what was
    wrong with the last."""

    def __init__(self, agent: str, wanted: str, tries: int, reason: str) -> None:
        self.agent = agent
        self.tries = tries
        self.reason = reason
        super().__init__(
            f"agent {agent!r} gave no answer that is a {wanted} in {tries} tries; the last: {reason}. Say in the question what "
            "you want, or allow more tries="
        )


class PiExited(OperationalError):
    """pi ended unasked, or its tmux session or server did. ``how`` says which, ``screen`` is its last screen, and ``ended``
    are the command lines that were ended with it, as far as they are known at once."""

    def __init__(self, how: str, screen: str = "", ended: Sequence[str] = ()) -> None:
        self.how = how
        self.screen = screen
        self.ended: tuple[str, ...] = tuple(ended)
        super().__init__(how + (f"; its last screen:\n{_indented(screen)}" if screen.strip() else ""))


class LaunchFailed(OperationalError):
    """pi could not be started, or ended before it connected."""

    def __init__(self, agent: str, why: str, remedy: str = "", screen: str = "") -> None:
        self.screen = screen
        text = f"agent {agent!r} could not be launched: {why}"
        if remedy:
            text += f"; {remedy}"
        if screen.strip():
            text += f"; its last screen:\n{_indented(screen)}"
        super().__init__(text)


class ModelError(OperationalError):
    """An agent's model failed. Raised by ``agent.ask``; else the ``__cause__`` of ``AgentDied``; and what
    ``agent(on_model_error=)`` is called with.

    ``kind``: ``"permanent"`` or ``"transient"`` (asking again can help). ``cause``: ``"authentication"``, ``"billing"``,
    ``"not_found"``, ``"rate_limit"`` and others (docs/faults.md). ``text``: the provider's words. ``status``: its HTTP status, or
    None. ``retry_after``: seconds that it asks to wait, or None. ``attempt``: how many runs in a row have failed, this one
    included. ``elapsed``: seconds since the first failure. ``asked``: an ``agent.ask`` waits for the run. ``model``:
    ``provider/model``, or None. ``remedy``: what to do.
    """

    def __init__(
        self,
        agent: str,
        failure: ModelFailure,
        *,
        model: str | None = None,
        attempt: int = 1,
        elapsed: float = 0.0,
        asked: bool = False,
    ) -> None:
        self.agent = agent
        self.kind = failure.kind
        self.cause = failure.cause
        self.text: str = failure.text
        self.status: int | None = failure.status
        self.retry_after: float | None = failure.retry_after
        self.model = model
        self.attempt = attempt
        self.elapsed = elapsed
        self.asked = asked
        self.remedy: str = remedy_for(failure.cause, model)
        super().__init__(self._said())

    def _said(self) -> str:
        tries = f" ({self.attempt} tries in {self.elapsed:.0f} s)" if self.attempt > 1 else ""
        return f"agent {self.agent!r}: the model failed{tries}: {brief(self.text)}; {self.remedy}"


class NoModel(ModelError):
    """pi has no model to work with, or no key for it."""

    def __init__(self, agent: str, why: str, model: str | None = None) -> None:
        super().__init__(agent, ModelFailure("permanent", "no_model", why, None, None), model=model)

    def _said(self) -> str:
        return f"agent {self.agent!r}: {self.text}"  # pi's extension has said the remedy


class Interrupted(OperationalError):
    """The model was interrupted before it had answered a question: by ``agent.interrupt()``, or by a person."""

    def __init__(self, agent: str) -> None:
        super().__init__(
            f"agent {agent!r} was interrupted before it had answered; ask again, or `send` what it is to do"
        )


class HandlerTimeout(OperationalError, TimeoutError):
    """A tool's handler did not end within the time that ``agent.on(tool, timeout=)`` gave it."""

    def __init__(self, tool: str, seconds: float) -> None:
        super().__init__(
            f"{tool} did not end within its {seconds:g} s and was cancelled; whether it took effect is not known"
        )


class MessageTooLarge(RequestRefused):
    """A message does not fit into a frame of the wire; it was not sent."""

    def __init__(self, agent: str, size: int) -> None:
        super().__init__(
            f"a message of {size} characters is too large for agent {agent!r} (about 16 million are not, fewer where "
            "they are not ASCII); write it to a file on its machine, and send its path"
        )


class ResultTooLarge(OperationalError):
    """A tool's result does not fit into a frame of the wire; the agent is told so instead."""

    def __init__(self, tool: str, size: int) -> None:
        super().__init__(
            f"the result of {tool} has {size} characters, and is too large (about 16 million are not, fewer where they "
            "are not ASCII); ask for less of it"
        )


class AgentEnded(RequestRefused):
    """The agent is ending, and takes no more requests."""

    def __init__(self, agent: str) -> None:
        super().__init__(f"agent {agent!r} is ending")


class ToolExists(RequestRefused):
    """The agent has a tool of this name."""

    def __init__(self, agent: str, tool: str) -> None:
        super().__init__(f"agent {agent!r} has a tool {tool!r} already; choose another name")


def _indented(text: str, lines: int = 15) -> str:
    kept = [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept)
