"""Which turn comes next: scripts for one agent or for many, and the player that keeps their place.

No I/O of its own; a script that is an ``async`` function may do what it likes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ramure.errors import UsageError
from ramure.testing.conversation import Conversation
from ramure.testing.steps import Step, Turn, as_turn, turn_from_json

__all__ = ["Answer", "Script", "ScriptError", "ScriptPlayer", "script_from_json"]

Answer: TypeAlias = Step | str | Sequence[Step | str]
"""One turn: a step, a text, or several of them."""

ScriptFunction: TypeAlias = Callable[[Conversation], Answer | Awaitable[Answer]]
Matcher: TypeAlias = str | re.Pattern[str] | Callable[[Conversation], bool]
OneScript: TypeAlias = Sequence[Answer] | ScriptFunction
Script: TypeAlias = OneScript | Mapping[Any, OneScript]
"""A list of turns, a function of the conversation, or a dict of these by matcher.

A matcher is a text or a compiled pattern, looked for in the system prompt and the first user message, or a
predicate on the :class:`Conversation`; the first that matches is taken. ``"*"`` matches anything.
"""


class ScriptError(UsageError):
    """The script could not answer a request: it was used up, matched nothing, or raised."""


class ScriptPlayer:
    """Plays a script: each conversation has its own place in each list of turns.

    ``key`` tells which conversation a request belongs to; by default that is pi's session, or, for a client that
    names none, the system prompt with the first user message. ``key=lambda body: ""`` makes it one for all.
    """

    def __init__(self, script: Script, key: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        if isinstance(script, Mapping):
            self._scripts = [(matcher, _checked(one, f"script[{matcher!r}]")) for matcher, one in script.items()]
            for matcher, _ in self._scripts:
                if not (isinstance(matcher, (str, re.Pattern)) or callable(matcher)):
                    raise UsageError(f"{matcher!r} is no matcher: use a text, a compiled pattern or a predicate")
        else:
            self._scripts = [("*", _checked(script, "script"))]
        self._key = key
        self._turns: dict[str, int] = {}
        self._places: dict[tuple[int, str], int] = {}

    def converse(self, body: Mapping[str, Any], session: str = "") -> Conversation:
        """The conversation that a request continues. Counts the request as a turn of it."""
        bare = Conversation(body)
        identity = self._key(body) if self._key else session or f"{bare.system_prompt}\0{bare.first_user_text}"
        turn = self._turns[identity] = self._turns.get(identity, 0) + 1
        return Conversation(body, id=identity, turn=turn)

    async def next_turn(self, conversation: Conversation) -> Turn:
        """What the model does now. Raises :class:`ScriptError` when the script has no sound answer."""
        index, script = self._find(conversation)
        if callable(script):
            try:
                answer = script(conversation)
                if inspect.isawaitable(answer):
                    answer = await answer
                return as_turn(answer)
            except Exception as error:
                raise ScriptError(
                    f"the script function failed at {_where(conversation)}: {type(error).__name__}: {error}"
                ) from error
        place = self._places.get((index, conversation.id), 0)
        if place >= len(script):
            raise ScriptError(
                f"the script is used up: it has {len(script)} turns, and this is request {place + 1} of "
                f"{_where(conversation)}; add a turn, or look at why the agent asked once more"
            )
        self._places[index, conversation.id] = place + 1
        return script[place]

    def _find(self, conversation: Conversation) -> tuple[int, list[Turn] | ScriptFunction]:
        for index, (matcher, script) in enumerate(self._scripts):
            if _matches(matcher, conversation):
                return index, script
        known = ", ".join(repr(matcher) for matcher, _ in self._scripts)
        raise ScriptError(f"no script matches {_where(conversation)}; there are: {known} (and '*' matches anything)")


def script_from_json(value: object) -> Script:
    """A script from its JSON form: a list of turns, or an object of these by the text to find (``"*"``: any)."""
    if isinstance(value, dict):
        return {text: _turns_from_json(turns, f"script[{text!r}]") for text, turns in value.items()}
    return _turns_from_json(value, "script")


def _turns_from_json(value: object, name: str) -> list[Turn]:
    if not isinstance(value, list):
        raise UsageError(f"{name} is a list of turns, not {value!r}")
    return [turn_from_json(turn) for turn in value]


def _checked(script: OneScript, name: str) -> list[Turn] | ScriptFunction:
    if callable(script):
        return script
    if isinstance(script, str) or not isinstance(script, Sequence):
        raise UsageError(f"{name} is a list of turns or a function of the conversation, not {script!r}")
    return [as_turn(turn) for turn in script]


def _matches(matcher: Matcher, conversation: Conversation) -> bool:
    if callable(matcher):
        return bool(matcher(conversation))
    places = (conversation.system_prompt, conversation.first_user_text)
    if isinstance(matcher, str):
        return matcher == "*" or any(matcher in place for place in places)
    return any(matcher.search(place) for place in places)


def _where(conversation: Conversation) -> str:
    first, last = conversation.first_user_text, conversation.last_user_text
    now = "" if last == first else f" (now at {last[:80]!r})"
    return f"the conversation that begins {first[:80]!r}{now}"
