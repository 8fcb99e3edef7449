"""Words about models: the status and the wait in a provider's error, what of it fits into a line, names that are near. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["brief", "http_status", "retry_after", "unknown_model"]

_STATUS_PLACES: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^\W{0,3}(?:error:?\s*)?([45]\d\d)\b",
        r"^[\w .()-]{0,40}(?:API|proxy) error\W{1,3}([45]\d\d)\b",
        r"\bstatus(?:[_ ]?code)?[\"']?\s*[:=]?\s*[\"']?([45]\d\d)\b",
        r"\b([45]\d\d) status code\b",
        r"\bHTTP(?:/[\d.]+)?(?: error| status)?:?\s+([45]\d\d)\b",
        r"\berror(?: code)?:?\s+([45]\d\d)\b",
        r"[\"']code[\"']\s*:\s*[\"']?([45]\d\d)\b",
        r"^[A-Za-z ]{3,30}:\s*([45]\d\d):",
    )
)
"""Where pi, its clients and the providers write the status."""


def http_status(text: str) -> int | None:
    """The HTTP status in an error's words."""
    for place in _STATUS_PLACES:
        found = place.search(text)
        if found:
            return int(found[1])
    return None


# -- when to ask again --------------------------------------------------------------------------------------

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_UNIT: Final = r"\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])"

_WAITS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"retryDelay[\"']?\s*[:=]\s*[\"']?{_NUMBER}{_UNIT}",
        rf"(?:requested|after|wait|in)\s+(?:for\s+|about\s+|~\s*)?{_NUMBER}{_UNIT}",
        rf"retry[-_ ]after(?:[-_ ]seconds)?[\"']?\s*[:=]?\s*[\"']?{_NUMBER}()",
        rf"requested\s+{_NUMBER}{_UNIT}\s+(?:retry|wait)",
    )
)
_MORE: Final = re.compile(rf"{_NUMBER}{_UNIT}", re.IGNORECASE)
_ASKS_TO_WAIT: Final = re.compile(r"retry|try again|please wait|reset", re.IGNORECASE)


def retry_after(text: str) -> float | None:
    """Seconds that the provider asks to wait, where the words say so (``try again in 1m20s``, ``"retryDelay": "34s"``)."""
    if not _ASKS_TO_WAIT.search(text):
        return None
    for pattern in _WAITS:
        found = pattern.search(text)
        if found is None:
            continue
        seconds = float(found[1]) * _unit(found[2])
        at = found.end()
        while (more := _MORE.match(text, at)) is not None:  # 1m20s
            seconds += float(more[1]) * _unit(more[2])
            at = more.end()
        return seconds
    return None


def _unit(name: str) -> float:
    name = name.lower()
    if not name:
        return 1.0
    return _UNITS["ms" if name.startswith(("ms", "milli")) else name[0]]


# -- for people ---------------------------------------------------------------------------------------------

LONGEST: Final = 300
"""Characters of a provider's words in an error's text; all of them are in its ``text``."""


def brief(text: str) -> str:
    """A provider's words in one line: the message in a JSON body, with the status before it."""
    words = " ".join(text.split())
    start = words.find("{")
    if start >= 0:
        try:
            body, _ = json.JSONDecoder().raw_decode(words[start:])
        except ValueError:
            body = None
        message = _message_in(body)
        if message:
            head = words[:start].strip().rstrip(":").strip()
            status = http_status(text)
            if not head and status is not None:
                head = str(status)
            words = f"{head} {' '.join(message.split())}".strip()
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def _message_in(body: Any, depth: int = 0) -> str | None:
    if isinstance(body, str):
        return body.strip() or None
    if not isinstance(body, dict) or depth > 3:
        return None
    for key in ("message", "error", "detail", "error_message", "msg"):
        found = _message_in(body.get(key), depth + 1)
        if found:
            return found
    return None


def unknown_model(model: str, near: Sequence[str]) -> str:
    """A model that pi does not know, of a provider whose models it knows: what to do. ``near``: the ids that are nearest."""
    provider, _, name = model.partition("/")
    names = ", ".join(repr(f"{provider}/{each}") for each in near)
    return (
        f"pi does not know the model {model!r} of the provider {provider!r}; the nearest that it knows: {names}. Choose one "
        f"with model=; `pi --list-models {provider}` shows all. The provider is asked for {name!r} all the same"
    )
