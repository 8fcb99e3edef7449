"""The frames of the control socket (``docs/control.md``), and their limits. Pure."""

from __future__ import annotations

from typing import Any, Final

from ramure.errors import RamureError
from ramure.masking import masked
from ramure.runtime.control.errors import BadRequest, RequestFailed, RunGone

__all__ = ["MAX_ANSWER", "MAX_REQUEST", "PROTOCOL", "Number", "described", "failure", "read_request"]

PROTOCOL: Final = 1
"""Changes when an old client could misread a new run. New methods and fields change nothing."""

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request. Nothing that a person or program asks for needs more."""

MAX_ANSWER: Final = 16 << 20
"""Bytes of an answer, or of an item of a stream."""

Number = int | str
"""What a client calls its request."""


def read_request(frame: Any) -> tuple[Number, str, dict[str, Any]]:
    """The three parts of a request. Raises :class:`BadRequest`."""
    if not isinstance(frame, list) or len(frame) != 3:
        raise BadRequest("frame", "must be a list of three: [id, method, arguments]")
    number, method, arguments = frame
    if isinstance(number, bool) or not isinstance(number, int | str) or len(str(number)) > 100:
        raise BadRequest("id", "must be a number or a text of at most 100 characters")
    if not isinstance(method, str):
        raise BadRequest("method", "must be a text")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise BadRequest("arguments", "must be a map from texts")
    return number, method, arguments


def number_of(frame: Any) -> Number | None:
    """The id of what may be no request, as far as it has one."""
    number = frame[0] if isinstance(frame, list) and frame else None
    return number if isinstance(number, int | str) and len(str(number)) <= 100 else None


def described(error: BaseException) -> dict[str, Any]:
    """An exception as an answer's ``error``."""
    text = masked(str(error))
    told: dict[str, Any] = {"error": type(error).__name__, "text": text if len(text) <= 10_000 else text[:9_999] + "…"}
    if getattr(error, "field", None) is not None:  # BadRequest, WrongArguments
        told["field"] = error.field  # type: ignore[attr-defined]
        told["reason"] = error.reason  # type: ignore[attr-defined]
    return told


def failure(told: Any) -> RamureError:
    """The exception at the client for an answer's ``error``."""
    if not isinstance(told, dict):
        return RequestFailed("MalformedFrame", "the run's answer is none of this protocol")
    kind = str(told.get("error"))
    return RequestFailed(kind, str(told.get("text")), told.get("field"))


def gone(run: str, why: str, kind: str = "RunEnded") -> RunGone:
    """The run does not answer (any more)."""
    return RunGone(kind, f"the run {run} {why}")
