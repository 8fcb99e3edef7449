"""What becomes of an agent whose model fails: it waits and tries again, ends, or leaves the error to who asked.

The decisions are :mod:`ramure.agents.models.retries`'s, or those of ``agent(on_model_error=)``; pi's extension holds the run
that failed up until it hears of one (docs/protocol.md, "When the model fails").
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from ramure.actors import Ref
from ramure.agents.errors import ModelError, NoModel
from ramure.agents.models.errors import ModelFailure, classify
from ramure.agents.models.retries import ANSWERS, Answer, Decision, Retries
from ramure.agents.models.words import brief, unknown_model
from ramure.agents.tools.calls import OwnTask, set_handled_agent
from ramure.clock import Clock
from ramure.errors import UsageError
from ramure.exits import Crashed, format_exit
from ramure.faults import failure_of
from ramure.masking import get_logger, masked

__all__ = ["Hooks", "ModelErrorHandler", "ModelWatch", "OnModelError"]

logger: logging.Logger = get_logger("ramure.agents")

ModelErrorHandler = Callable[[ModelError], Any]
"""``agent(on_model_error=)``: plain or async, returns "retry", "end" or "ignore"."""

UNSAID: Final = "the model failed without a message"


@dataclass(frozen=True, slots=True)
class OnModelError:
    """A user's handler, and the scope that it runs in."""

    handler: ModelErrorHandler
    context: contextvars.Context


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the agent's actor does for its watch."""

    agent: Ref[Any]
    waits_for_model: Callable[[bool], None]
    """The agent waits for its model, or its model is at work again."""
    tell_retry: Callable[[str, bool], None]
    """Tell pi whether the run that it holds up is tried again."""
    is_asked: Callable[[dict[str, Any]], bool]
    """Whether somebody waits for the answer of a run."""
    lifecycle: Callable[[str, dict[str, Any]], None]
    """An event of the agent, also for the run's log."""
    later: Callable[[float, Callable[[], None]], None]
    """Do something after so many seconds, in the agent's turn."""
    own_task: OwnTask
    stop: Callable[[Crashed], None]


class ModelWatch:
    """Follows what an agent's pi reports of its model."""

    def __init__(
        self,
        name: str,
        address: str,
        hooks: Hooks,
        retries: Retries,
        clock: Clock,
        on_error: OnModelError | None = None,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._address = address
        self._hooks = hooks
        self._retries = retries
        self._clock = clock
        self._on_error = on_error
        self._luck = luck
        self._run: str | None = None  # which failed, and is held up
        self._final: ModelError | None = None  # of the run that is over, until that is reported
        self._unknown: str | None = None  # the model that pi does not know, which was told

    # -- what pi reports ------------------------------------------------------------------------------------

    def on_assistant(self, data: dict[str, Any]) -> None:
        """A reply. One that failed may be tried again by pi itself: the agent waits for its model already."""
        if data.get("stop_reason") != "error":
            if data.get("stop_reason") != "aborted":
                self._retries.reset()
                self._hooks.waits_for_model(False)
        elif classify(str(data.get("error") or UNSAID)).kind == "transient":
            self._retries.on_error(self._clock.monotonic())
            self._hooks.waits_for_model(True)

    def on_run_failed(self, data: dict[str, Any]) -> None:
        """A run has failed, and pi holds it up."""
        failure = _failure(data)
        self._run = run = str(data.get("run"))
        now = self._clock.monotonic()
        if failure.kind != "aborted":
            self._retries.on_failed(now)
        model = data.get("model")
        error = ModelError(
            self._name,
            failure,
            model=model if isinstance(model, str) else None,
            attempt=self._retries.attempt,
            elapsed=self._retries.elapsed(now),
            asked=self._hooks.is_asked(data),
        )
        self._judge(run, error, failure)

    def on_run_end(self, data: dict[str, Any]) -> ModelError | None:
        """A run is over; the error that it ended with."""
        final, self._final = self._final, None
        self._forget()
        if not data.get("error"):
            return None
        return final or ModelError(self._name, classify(str(data["error"])))

    def on_busy(self) -> None:
        """pi is at work: also the run that it held up goes on, by our word or a person's."""
        self._run = None

    def on_down(self) -> None:
        """pi has ended: its next life goes on with what was held up."""
        self._run = self._final = None

    def on_pause(self) -> None:
        """A pause begins or ends: after it pi goes on by itself, and the time of the pause does not count."""
        self._forget()

    def _forget(self) -> None:
        self._run = None
        self._retries.reset()

    def on_problem(self, data: dict[str, Any], model: str | None) -> dict[str, Any] | None:
        """pi has no model or no key for it, does not know it, or takes messages and does not begin to work. ``model``: what
        was asked for. Returns the text of the warning; None if an earlier life of pi has reported it."""
        why = masked(str(data.get("message")))
        if data.get("code") == "no_model":
            self._end(NoModel(self._name, why, model))
        elif data.get("code") == "unknown_model":
            return self._unknown_model(str(data.get("model")), data)
        elif data.get("given_up") is True:
            self._end(ModelError(self._name, ModelFailure("permanent", "not_started", why, None, None), model=model))
        return data

    def _unknown_model(self, model: str, data: dict[str, Any]) -> dict[str, Any] | None:
        if model == self._unknown:
            return None
        self._unknown = model
        return {**data, "message": unknown_model(model, data.get("near", []))}

    # -- decisions ------------------------------------------------------------------------------------------

    def _judge(self, run: str, error: ModelError, failure: ModelFailure) -> None:
        decision = self._retries.decide(failure, self._clock.monotonic(), self._luck())
        if self._on_error is None or decision.answer == "ignore":
            self._carry_out(run, error, decision)
            return
        self._hooks.waits_for_model(True)
        self._hooks.own_task(
            self._consult(run, error, failure), f"on_model_error of {self._address}", self._on_error.context.copy()
        )

    async def _consult(self, run: str, error: ModelError, failure: ModelFailure) -> None:
        """Ask the user's handler. Whatever goes wrong in it ends the agent with that."""
        assert self._on_error is not None
        try:
            set_handled_agent(self._hooks.agent)
            answer = self._on_error.handler(error)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer not in ANSWERS:
                raise UsageError(
                    f"agent {self._name!r}: on_model_error returned {answer!r}; return 'retry', 'end' or 'ignore'"
                )
        except BaseException as raised:
            wrong = failure_of(raised)
            wrong.__context__ = error
            logger.warning("agent %s: on_model_error failed: %s; the agent ends", self._address, format_exit(wrong))
            self._tell(error, Decision("end"), f"on_model_error failed ({format_exit(wrong)}): the agent ends")
            self._hooks.stop(Crashed(wrong))
            return
        wait = self._retries.delay(failure, self._luck()) if answer == "retry" else 0.0
        self._carry_out(run, error, Decision(_answer(answer), wait))

    def _carry_out(self, run: str, error: ModelError, decision: Decision) -> None:
        if self._run != run:
            return  # it goes on already, or has ended: a person saw to it
        match decision.answer:
            case "retry":
                if error.attempt <= 1:
                    words = brief(error.text)
                    logger.warning("agent %r waits for its model, which failed: %s", self._name, words)
                self._tell(error, decision, f"tried again after {decision.delay:.2g} s")
                self._hooks.waits_for_model(True)
                self._hooks.later(decision.delay, lambda: self._ask_again(run))
            case "end" if not error.asked:
                self._end(error)
            case _:
                self._tell(error, decision, "told to who asked" if error.asked else "ignored: the agent lives on")
                self._final = error
                self._hooks.tell_retry(run, False)

    def _ask_again(self, run: str) -> None:
        """The pause before a try is over."""
        if run == self._run:
            self._hooks.tell_retry(run, True)

    def _end(self, error: ModelError) -> None:
        logger.warning("%s; the agent ends", error)
        self._tell(error, Decision("end"), self._why_end(error))
        self._hooks.stop(Crashed(error))

    def _why_end(self, error: ModelError) -> str:
        if error.kind == "transient" and self._on_error is None:
            wait = f", and the provider asks to wait {error.retry_after:g} s" if error.retry_after else ""
            return f"gave up (retry_for={self._retries.retry_for:g}{wait}): the agent ends"
        return "the agent ends"

    def _tell(self, error: ModelError, decision: Decision, did: str) -> None:
        self._hooks.lifecycle(
            "model_error",
            {
                "kind": error.kind,
                "cause": error.cause,
                "text": error.text,
                "status": error.status,
                "model": error.model,
                "attempt": error.attempt,
                "elapsed": round(error.elapsed, 3),
                "retry_after": error.retry_after,
                "remedy": error.remedy,
                "asked": error.asked,
                "answer": decision.answer,
                "delay": round(decision.delay, 3) if decision.answer == "retry" else None,
                "did": did,
            },
        )


def _answer(answer: Any) -> Answer:
    found: Answer = answer
    return found


def _failure(data: dict[str, Any]) -> ModelFailure:
    """Why a run failed. A conversation that is too large is no matter for ever where only its compaction could not be made
    now."""
    failure = classify(str(data.get("error") or UNSAID))
    if failure.cause == "overflow" and data.get("compaction"):
        why = classify(masked(str(data["compaction"])))
        if why.kind == "transient" and why.cause != "unknown":
            return replace(why, text=f"{why.text} (in the compaction, after: {failure.text})")
    return failure
