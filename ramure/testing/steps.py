"""The steps of a script: what a scripted model does in one turn, as data.

Pure: no I/O. A *turn* is one reply of the model: one step, or a sequence of steps. In JSON a step is a string
(text), or an object with one of the keys ``text``, ``thinking``, ``tool``, ``usage``, ``delay``, ``http_error``,
``finish``, ``drop``, ``hang``; :func:`turn_from_json` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from ramure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Delay",
    "DropConnection",
    "Finish",
    "HTTPError",
    "Hang",
    "Step",
    "Text",
    "Thinking",
    "ToolCall",
    "Turn",
    "Usage",
    "as_turn",
    "turn_from_json",
]


@dataclass(frozen=True, slots=True)
class Text:
    """The model says ``text``, in pieces of ``chunk`` characters with ``pause`` seconds between them."""

    text: str
    chunk: int = 40
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model thinks ``text`` (reasoning that pi shows apart from the answer), in pieces as :class:`Text`."""

    text: str
    chunk: int = 40
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool. Several in one turn are parallel calls.

    ``arguments`` is what the tool gets; a ``str`` is sent as it stands, for arguments that are no sound JSON.
    ``id`` is the call's id; by default a new one for each call, as real models do.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that this turn reports. ``input`` counts those neither read from nor written to a cache."""

    input: int = 100
    output: int = 10
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Delay:
    """Nothing is sent for ``seconds``. As the first step, it delays the response itself."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The turn ends with this reason. Default: ``tool_calls`` if it called tools, else ``stop``."""

    reason: Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class HTTPError:
    """The request is answered with an HTTP error (only before anything that is streamed).

    ``retry_after``, in seconds, becomes the Retry-After header; ``retry=False`` asks the client not to try again.
    """

    status: int
    message: str = "scripted error"
    retry_after: float | None = None
    retry: bool = True


@dataclass(frozen=True, slots=True)
class DropConnection:
    """The connection is cut here, without an ending."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing more is sent, and the connection stays open until the client or the server closes it."""


Step: TypeAlias = Text | Thinking | ToolCall | Usage | Delay | Finish | HTTPError | DropConnection | Hang
Turn: TypeAlias = tuple[Step, ...]

_S = TypeVar("_S", Text, Thinking, ToolCall, Usage, Finish, HTTPError)
_STEPS: Final = (Text, Thinking, ToolCall, Usage, Delay, Finish, HTTPError, DropConnection, Hang)
_STREAMED: Final = (Text, Thinking, ToolCall)


def as_turn(value: object) -> Turn:
    """One turn from a step, a string (text), or a sequence of these. Raises :class:`UsageError` for anything else."""
    items: Sequence[object] = value if isinstance(value, (list, tuple)) else (value,)
    turn = tuple(Text(item) if isinstance(item, str) else item for item in items)
    for item in turn:
        if not isinstance(item, _STEPS):
            names = ", ".join(step.__name__ for step in _STEPS)
            raise UsageError(f"a turn is made of steps ({names}) or strings, not of {item!r}")
    steps: Turn = turn  # type: ignore[assignment]  # the loop above has shown it
    for index, step in enumerate(steps):
        if isinstance(step, HTTPError) and any(isinstance(earlier, _STREAMED) for earlier in steps[:index]):
            raise UsageError("HTTPError after something was streamed is impossible; use DropConnection() there")
    return steps


def turn_from_json(value: object) -> Turn:
    """One turn from its JSON form. Raises :class:`UsageError` that shows what is wrong."""
    return as_turn([_step_from_json(item) for item in (value if isinstance(value, list) else [value])])


def _step_from_json(value: object) -> Step:
    if isinstance(value, str):
        return Text(value)
    given: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    match given:
        case {"text": str()}:
            return _build(Text, given)
        case {"thinking": str(text), **rest}:
            return _build(Thinking, {"text": text, **rest})
        case {"tool": str(name), **rest}:
            return _build(ToolCall, {"name": name, **rest})
        case {"usage": dict(numbers)}:
            return _build(Usage, numbers)
        case {"delay": int() | float() as seconds}:
            return Delay(seconds)
        case {"http_error": int(status), **rest}:
            return _build(HTTPError, {"status": status, **rest})
        case {"finish": str()}:
            return _build(Finish, {"reason": given["finish"]})
        case {"drop": True}:
            return DropConnection()
        case {"hang": True}:
            return Hang()
    raise UsageError(
        f"{value!r} is no step; a step is a string, or an object with text, thinking, tool (and arguments), usage, "
        f"delay, http_error (and retry_after), finish, drop or hang"
    )


def _build(kind: type[_S], values: Mapping[str, Any]) -> _S:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return kind(**values)
