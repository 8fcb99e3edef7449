"""The frames between a run and an agent's extension, as data. Pure: no I/O.

docs/protocol.md specifies them; ``ramure/agents/pi/extension/wire.ts`` is the other end. A frame is one JSON object in one
WebSocket text message. Unknown fields are ignored, so that a newer peer may say more; an unknown ``type`` is an error
that is answered and does not end the connection.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from ramure.errors import OperationalError

__all__ = [
    "CLOSE_PROTOCOL",
    "CLOSE_REFUSED",
    "CLOSE_REPLACED",
    "MAX_FRAME",
    "PROTOCOL",
    "SUBPROTOCOL",
    "TOKEN_PREFIX",
    "Ack",
    "Bye",
    "Delivered",
    "Entry",
    "EntryFrame",
    "ErrorFrame",
    "Frame",
    "FrameTooLarge",
    "Hello",
    "MalformedFrame",
    "Ping",
    "Pong",
    "Report",
    "ReportsAck",
    "Resend",
    "Shutdown",
    "ToolResult",
    "Welcome",
    "decode",
    "encode",
    "is_whole",
]

PROTOCOL: Final = 1
"""The version that a hello must say."""

SUBPROTOCOL: Final = "ramure.v1"
TOKEN_PREFIX: Final = "ramure.token."
"""The second WebSocket subprotocol that a client offers is this and its token."""

MAX_FRAME: Final = 16 * 1024 * 1024

MAX_VALUES: Final = 250_000
"""Values in a frame, at most: each takes some 60 bytes here, however short it is written."""
MAX_DEPTH: Final = 100
_TEXTS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS: Final = re.compile(r"[\[\]{}]")

_REST: Final = 64 * 1024  # what a frame may hold beside one text, at most
"""The largest frame, in bytes of UTF-8, in both directions."""

CLOSE_PROTOCOL: Final = 4400
"""Close code: no hello, or one of another protocol version."""
CLOSE_REFUSED: Final = 4401
"""Close code: the token is not one that is expected (any more). Final."""
CLOSE_REPLACED: Final = 4409
"""Close code: the same launch has connected anew. Final for this connection."""


class MalformedFrame(OperationalError):
    """The peer sent something that is no frame. ``code`` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class FrameTooLarge(OperationalError):
    """A frame to be sent is larger than :data:`MAX_FRAME`; it was not sent."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind = kind
        self.size = size
        super().__init__(f"a {kind} frame of {size} bytes is over the limit of {MAX_FRAME}; send less, or a file")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an agent's log. ``ts`` is in seconds since the epoch; ``origin`` says who caused it."""

    seq: int
    ts: float
    type: str
    data: dict[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Hello:
    """The extension's first frame on every connection: who it is, and what it has already."""

    protocol: int
    launch: str
    agent: str
    pi: str
    node: str
    pid: int
    session_file: str | None
    model: str | None
    state: str
    applied: int
    delivered: tuple[int, ...]
    calls: tuple[str, ...]
    marks: tuple[str, ...] = ()
    """The mark of each message in ``delivered``, in the same order; ``""`` for one without."""
    instance: int = 1
    """1 for the first session of this launch; 2, 3 … when a person has opened another one in the same pi."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The run's answer to a hello. ``reports``: the last report of this launch that the run has. ``upto``: the last seq
    that follows now; with it applied the extension is caught up."""

    reports: int
    upto: int


@dataclass(frozen=True, slots=True)
class EntryFrame:
    """An entry for the extension. ``prev`` is the seq of the one sent before it (the hello's ``applied`` for the first)."""

    prev: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Ack:
    """All entries sent up to ``applied`` are applied. For a message that means taken in, not delivered."""

    applied: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """These messages are in pi's session, with these marks."""

    seqs: tuple[int, ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resend:
    """There was a gap. To the run: send the entries after ``after``; to the extension: the reports."""

    after: int


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened in pi, the launch's ``n``-th (1, 2, 3 …); ``kind`` says which fields ``data`` has."""

    n: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReportsAck:
    """The run has every report up to ``n``."""

    n: int


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to: the text for the model, as a result or as an error. ``images`` stand beside it, each with
    ``mime_type`` and ``data`` (base64)."""

    call_id: str
    ok: bool
    text: str
    images: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The run wants pi to end now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Bye:
    """pi is ending by itself (``quit``), or changes its session (``new``, ``resume``, ``reload``, ``fork``)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Either side may ask."""


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes."""


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """The peer's frame was not understood, or could not be served; the connection goes on."""

    code: str
    message: str


Frame = (
    Hello
    | Welcome
    | EntryFrame
    | Ack
    | Delivered
    | Resend
    | Report
    | ReportsAck
    | ToolResult
    | Shutdown
    | Bye
    | Ping
    | Pong
    | ErrorFrame
)

_TYPES: Final[dict[str, type[Frame]]] = {
    "hello": Hello,
    "welcome": Welcome,
    "entry": EntryFrame,
    "ack": Ack,
    "delivered": Delivered,
    "resend": Resend,
    "report": Report,
    "reports_ack": ReportsAck,
    "tool_result": ToolResult,
    "shutdown": Shutdown,
    "bye": Bye,
    "ping": Ping,
    "pong": Pong,
    "error": ErrorFrame,
}
_NAMES: Final = {cls: name for name, cls in _TYPES.items()}


_FIELDS: Final = {
    cls: [(field.name, str(field.type), field.default) for field in fields(cls)] for cls in (Entry, *_TYPES.values())
}

_NAMES_OF: Final = {cls: tuple(name for name, _, _ in found) for cls, found in _FIELDS.items()}
_DEFAULTS: Final = {
    cls: tuple((name, default) for name, _, default in found if default is not MISSING)
    for cls, found in _FIELDS.items()
}

# ASCII output: any text survives, lone surrogates too, and one character is one byte.
_to_text: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


_WHOLE: Final = 2**53


def is_whole(value: object) -> bool:
    """Whether it is a whole number that both ends can hold: not negative, below 2**53."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _WHOLE


# Field annotation -> (what it must be, check). Annotations are strings here (postponed evaluation).
_CHECKS: Final = {
    "int": ("a whole number", is_whole),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "str": ("a text", lambda v: isinstance(v, str)),
    "str | None": ("a text or null", lambda v: v is None or isinstance(v, str)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "dict[str, Any]": ("an object", lambda v: isinstance(v, dict)),
    "tuple[int, ...]": ("a list of whole numbers", lambda v: isinstance(v, list) and all(map(is_whole, v))),
    "tuple[dict[str, Any], ...]": (
        "a list of objects",
        lambda v: isinstance(v, list) and all(isinstance(x, dict) for x in v),
    ),
    "tuple[str, ...]": ("a list of texts", lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v)),
}


def _build(cls: type[Any], value: dict[str, Any], where: str) -> Any:
    made: dict[str, Any] = {}
    for name, kind, default in _FIELDS[cls]:
        if name not in value:
            if default is not MISSING:
                continue
            raise MalformedFrame("field", f"{where} has no field {name!r}")
        given = value[name]
        if kind == "Entry":
            if not isinstance(given, dict):
                raise MalformedFrame("field", f"{where}: {name} must be an object")
            made[name] = _build(Entry, given, f"{where}: {name}")
            continue
        wanted, check = _CHECKS[kind]
        if not check(given):
            raise MalformedFrame("field", f"{where}: {name} must be {wanted}, not {json.dumps(given)[:80]}")
        made[name] = tuple(given) if isinstance(given, list) else given
    return cls(**made)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


_decoder: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _from_text(text: str) -> Any:
    """The JSON value that ``text`` is. Raises ValueError, RecursionError."""
    try:
        value, end = _decoder.raw_decode(text)  # without a search for whitespace around it
    except json.JSONDecodeError:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def _check_size(text: str) -> None:
    """Refuse what would take far more memory than its text, or more stack than there is."""
    if text.count(",") + text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    bare = _TEXTS.sub("", text)  # commas and brackets in texts cost nothing
    if bare.count(",") + bare.count("[") + bare.count("{") > MAX_VALUES:
        raise MalformedFrame("size", f"a frame may hold {MAX_VALUES:,} values at most")
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise MalformedFrame("depth", f"a frame may be nested {MAX_DEPTH} deep at most")


def decode(text: str | bytes) -> Frame:
    """The frame that ``text`` is. Raises :class:`MalformedFrame` with what is wrong."""
    if isinstance(text, bytes):
        raise MalformedFrame("binary", "frames are text messages, this one is binary")
    if len(text) > 2 * MAX_DEPTH:
        _check_size(text)
    try:
        value = _from_text(text)
    except (ValueError, RecursionError) as error:
        raise MalformedFrame("json", f"a frame must be JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise MalformedFrame("json", "a frame must be a JSON object")
    name = value.get("type")
    # The short way for the most frequent ones, where they are in order.
    if name == "ack":
        applied = value.get("applied")
        if type(applied) is int and 0 <= applied < _WHOLE:
            return Ack(applied)
    elif name == "report":
        n, kind, data = value.get("n"), value.get("kind"), value.get("data")
        if type(n) is int and 0 <= n < _WHOLE and type(kind) is str and type(data) is dict:
            return Report(n, kind, data)
    cls = _TYPES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise MalformedFrame("type", f"unknown frame type {json.dumps(name)[:80]}")
    frame: Frame = _build(cls, value, f"{name} frame")
    return frame


def _plain(value: Any) -> Any:
    """A dataclass as a dict, one level at a time: ``dataclasses.asdict`` would copy an entry's data deeply."""
    plain = {name: getattr(value, name) for name in _NAMES_OF[type(value)]}
    for name, default in _DEFAULTS[type(value)]:
        if plain[name] == default:
            del plain[name]
    return plain


def fits(text: str) -> bool:
    """True if a frame has room for ``text``, and for what goes with it."""
    room = MAX_FRAME - _REST
    if len(text) * 12 <= room:  # no character takes more than two escapes
        return True
    return len(text) <= room and len(_to_text(text)) <= room


def encode(frame: Frame) -> str:
    """The frame's text. Raises :class:`FrameTooLarge`; TypeError or ValueError where ``data`` is not JSON."""
    name = _NAMES[type(frame)]
    body = _plain(frame)
    if isinstance(frame, EntryFrame):
        entry = frame.entry
        body["entry"] = {
            "seq": entry.seq,
            "ts": entry.ts,
            "type": entry.type,
            "data": entry.data,
            "origin": entry.origin,
        }
    text = _to_text({"type": name, **body})
    if len(text) > MAX_FRAME:
        raise FrameTooLarge(name, len(text))
    return text
