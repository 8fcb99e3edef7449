"""The model of simulated pis: a script, asked without HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from ramure.testing.pi_config import MODELS, PRICES, PROVIDER
from ramure.testing.scripted_model import ModelRequest, Outcome
from ramure.testing.scripts import ScriptError
from ramure.testing.steps import Delay, DropConnection, Finish, Hang, HTTPError, Text, Thinking, ToolCall, Turn, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ramure.testing.scripts import ScriptPlayer

__all__ = ["SimulatedModel"]

_RETRIED: Final = re.compile(r"429|50[0234]|terminated")
_USED_UP: Final = re.compile(r"insufficient_quota|quota exceeded|billing|out of budget", re.IGNORECASE)
"""Of limits that are used up for good, which pi does not try again."""

_STOP_REASONS: Final = {"stop": "stop", "length": "length", "tool_calls": "toolUse", "content_filter": "error"}


# What pi says of a request that was aborted before its answer began, and after.
ABORTED: Final = "Request was aborted."
ABORTED_LATE: Final = "Request was aborted"

_TRIES: Final = 3
"""How often pi's client asks before it gives up on an HTTP error."""


class _BrokenError(Exception):
    """The connection was cut in the middle of the answer."""


class _RefusedError(Exception):
    """The request was answered with an HTTP error."""

    def __init__(self, step: HTTPError) -> None:
        self.step = step
        super().__init__(f"{step.status} {step.message}")

    @property
    def is_worth_retrying(self) -> bool:
        return self.step.retry and (self.step.status in (408, 409, 429) or self.step.status >= 500)


class SimulatedModel:
    """Answers requests of simulated pis, which may share it. ``failed`` hears of requests without an answer."""

    def __init__(
        self, player: ScriptPlayer, model: str, requests: list[ModelRequest], failed: Callable[[Exception], None]
    ) -> None:
        self.name = model
        self._player = player
        self._requests = requests
        self._failed = failed

    @property
    def is_known(self) -> bool:
        """False for a model that the provider of scripted ones does not have."""
        provider, _, model = self.name.partition("/")
        return provider != PROVIDER or model in MODELS

    def new_message(self) -> dict[str, Any]:
        """An assistant message of pi's with nothing in it yet: what it stays if it is interrupted now."""
        provider, _, model = self.name.rpartition("/")
        head = {"role": "assistant", "api": "openai-completions", "provider": provider, "model": model}
        usage = _usage(Usage(0, 0))
        return {**head, "content": [], "usage": usage, "stopReason": "aborted", "errorMessage": ABORTED}

    async def reply(self, message: dict[str, Any], body: Mapping[str, Any], session: str) -> None:
        """Fill ``message`` in. Cancelling it interrupts the model: what it has said so far stands in ``message``."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                await self._ask(message, body, session)
            except _RefusedError as error:
                if left and error.is_worth_retrying:
                    pause = error.step.retry_after
                    await asyncio.sleep(0.5 * 2 ** (_TRIES - 1 - left) if pause is None else pause)
                    continue
                message.update(stopReason="error", errorMessage=str(error))
            except _BrokenError:
                message.update(stopReason="error", errorMessage="terminated")
            except ScriptError as error:
                self._failed(error)
                message.update(stopReason="error", errorMessage=f"400 {error}")
            return

    def is_worth_retrying(self, message: Mapping[str, Any]) -> bool:
        """Whether pi asks once more after this error."""
        words = str(message.get("errorMessage"))
        return _RETRIED.match(words) is not None and _USED_UP.search(words) is None

    async def _ask(self, message: dict[str, Any], body: Mapping[str, Any], session: str) -> None:
        request = ModelRequest(len(self._requests) + 1, self._player.converse(body, session))
        self._requests.append(request)
        outcome: Outcome = "client gone"
        try:
            request.turn = await self._player.next_turn(request.conversation)
            await _play(request.turn, message)
            outcome = "served"
        except _RefusedError:
            outcome = "refused"
            raise
        except _BrokenError:
            outcome = "cut"
            raise
        except ScriptError:
            outcome = "script failed"
            raise
        finally:
            request.end(outcome)


async def _play(turn: Turn, message: dict[str, Any]) -> None:
    content: list[dict[str, Any]] = message["content"]
    reason = "stop"
    for step in turn:
        match step:
            case Text() | Thinking():
                await asyncio.sleep(step.pause * (len(step.text) // max(1, step.chunk)))
                kind = "text" if isinstance(step, Text) else "thinking"
                content.append({"type": kind, kind: step.text})
                message["errorMessage"] = ABORTED_LATE
            case ToolCall():
                reason = "toolUse"
                content.append(_call(step))
                message["errorMessage"] = ABORTED_LATE
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Usage():
                message["usage"] = _usage(step)
            case Finish():
                reason = _STOP_REASONS[step.reason]
            case HTTPError():
                raise _RefusedError(step)
            case DropConnection():
                raise _BrokenError
            case Hang():
                await asyncio.Event().wait()
    if not any(isinstance(step, Usage) for step in turn):
        message["usage"] = _usage(Usage())
    message["stopReason"] = reason
    message["errorMessage"] = "Provider finish_reason: content_filter" if reason == "error" else None


def _call(step: ToolCall) -> dict[str, Any]:
    arguments: Any = step.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}  # pi takes what it could make out
    identity = step.id or f"call_{secrets.token_hex(8)}"
    return {"type": "toolCall", "id": identity, "name": step.name, "arguments": dict(arguments)}


def _usage(usage: Usage) -> dict[str, Any]:
    tokens = {
        "input": usage.input,
        "output": usage.output,
        "cacheRead": usage.cache_read,
        "cacheWrite": usage.cache_write,
    }
    cost = {kind: count * PRICES[kind] / 1e6 for kind, count in tokens.items()}
    return {**tokens, "totalTokens": sum(tokens.values()), "cost": {**cost, "total": sum(cost.values())}}
