"""What an extension may report, field by field. Pure: no I/O.

An agent that was turned has its extension's token, and can say what it likes: so nothing of a report is used before it was
checked here. docs/protocol.md lists the kinds. Unknown fields pass, since a newer extension may say more; a kind that is
not known is refused, since each report becomes an event of the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ramure.agents.wire import MalformedFrame, is_whole

__all__ = ["KINDS", "checked"]

LONGEST_ID: Final = 4096
"""Characters of a call's id, and of a tool's name: those under way are kept."""

LONGEST_ERROR: Final = 16_384
"""Characters of an error's or a problem's words that are taken; they are searched for secrets and reasons on the event loop."""

LONGEST_NAME: Final = 512
"""Characters of a model's name that goes into a warning."""

MOST_NAMES: Final = 5

COUNTED: Final = ("input", "output", "cacheRead", "cacheWrite", "totalTokens")
MOST_TOKENS: Final = 10**12
MOST_COST: Final = 1e9
"""Of one answer of a model. More is no usage, and would hide all that was used before."""

Check = Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_ID


def _seq_or_null(value: object) -> bool:
    return value is None or is_whole(value)


def _seqs(value: object) -> bool:
    return isinstance(value, list) and all(map(is_whole, value))


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _calls(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(call, dict) and _text(call.get("id")) and _text(call.get("name")) for call in value
    )


def _name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _name_or_null(value: object) -> bool:
    return value is None or _name(value)


def _names(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_name, value))


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _anything(value: object) -> bool:
    return True


_OUTCOME: Final[dict[str, Check]] = {"text": _text, "stop_reason": _text_or_null, "error": _text_or_null}

KINDS: Final[dict[str, dict[str, Check]]] = {
    "state": {"state": lambda value: value in ("busy", "idle")},
    "user": {"seq": _seq_or_null, "text": _text},
    "assistant": {
        **_OUTCOME,
        "tool_calls": _calls,
        "model": _name_or_null,
        "provider": _name_or_null,
        "usage": _anything,
    },
    "run_failed": {
        **_OUTCOME,
        "seqs": _seqs,
        "run": _text_or_null,
        "model": _name_or_null,
        "compaction": _text_or_null,
    },
    "run_end": {**_OUTCOME, "seqs": _seqs},
    # A call with a wrong name or arguments is answered to the model: agents/delivery.py.
    "tool_call": {"call_id": _id, "tool_call_id": _text_or_null, "name": _anything, "arguments": _anything},
    "tool_cancel": {"call_id": _id},
    "tool_start": {"tool_call_id": _id, "name": _id, "arguments": _anything},
    "tool_end": {"tool_call_id": _id, "name": _id, "ok": _flag, "text": _text},
    "disk": {"full": _flag, "path": _text, "reason": _text, "needed": is_whole},
    "problem": {
        "code": _text,
        "message": _text,
        "seq": _seq_or_null,
        "given_up": _flag,
        "model": _name_or_null,
        "near": _names,
    },
}
"""The kinds of reports, and what each field must be where it is there."""

WORDS: Final[dict[str, tuple[str, ...]]] = {
    "assistant": ("error",), "run_end": ("error",), "run_failed": ("error", "compaction"), "problem": ("code", "message")
}  # fmt: skip
"""The fields that are words of an error."""

NEEDED: Final[dict[str, frozenset[str]]] = {
    "state": frozenset({"state"}),
    "user": frozenset({"text"}),
    "run_failed": frozenset({"seqs"}),
    "run_end": frozenset({"seqs"}),
    "tool_call": frozenset({"call_id"}),
    "tool_cancel": frozenset({"call_id"}),
    "disk": frozenset({"full", "path", "reason", "needed"}),
    "problem": frozenset({"code", "message"}),
}
"""The fields that must be there."""


def checked(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data of a report, fit to be used: a usage that is none counts as none. Raises :class:`MalformedFrame`."""
    fields = KINDS.get(kind)
    if fields is None:
        raise MalformedFrame("report", f"unknown kind of report {kind[:80]!r}")
    for name in NEEDED.get(kind, ()):
        if name not in data:
            raise MalformedFrame("report", f"a {kind} report has no field {name!r}")
    for name, check in fields.items():
        if name in data and not check(data[name]):
            raise MalformedFrame("report", f"{kind} report: {name} is {repr(data[name])[:80]}")
    for name in WORDS.get(kind, ()):
        words = data.get(name)
        if words is not None and len(words) > LONGEST_ERROR:  # longer than any error is
            data = {**data, name: f"{words[:LONGEST_ERROR]}…"}
    return {**data, "usage": _usage(data["usage"])} if kind == "assistant" and "usage" in data else data


def _usage(reported: object) -> dict[str, Any] | None:
    """pi's usage with amounts that can be added up: what is none is left out."""
    if not isinstance(reported, dict):
        return None
    usage: dict[str, Any] = {name: reported[name] for name in COUNTED if _amount(reported.get(name), MOST_TOKENS)}
    cost = reported.get("cost")
    if isinstance(cost, dict):
        usage["cost"] = {str(name): amount for name, amount in cost.items() if _amount(amount, MOST_COST)}
    return usage


def _amount(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
