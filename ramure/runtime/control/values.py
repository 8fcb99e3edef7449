"""Values over the control socket: msgpack, and extension types for what msgpack itself has not. Pure.

Whatever an endpoint returns can be sent. Big integers, tuples, sets, dates and times arrive as what they were; a member of
an Enum as its value, a Decimal, a UUID and a path as texts; a dataclass and a pydantic model arrive as a :class:`Record` and
an exception as a :class:`RemoteError`, since the client may not have the class; anything else as an :class:`Opaque`, which
shows it.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

import msgpack

from ramure.exits import safe_repr
from ramure.runtime.control.errors import NotSendable

__all__ = ["MAX_DEPTH", "Opaque", "Record", "RemoteError", "opened", "pack", "plain", "unpack", "unpacker"]

MAX_DEPTH: Final = 64
"""How deep extension types may be nested in each other; lists and maps may be a few hundred deep."""
REPR_LIMIT: Final = 1000
"""Characters that are shown of a value that cannot be sent."""

BIG, TUPLE, SET, FROZENSET, DATETIME, DATE, TIME, TIMEDELTA, RECORD, ERROR, OPAQUE = range(1, 12)


class Record:
    """A dataclass's instance from the run: ``record.type`` is its class's name, its fields are attributes."""

    __slots__ = ("fields", "type")

    def __init__(self, type: str, fields: Mapping[str, Any]) -> None:
        self.type: str = type
        self.fields: dict[str, Any] = dict(fields)

    def __getattr__(self, name: str) -> Any:
        if name not in Record.__slots__ and name in self.fields:
            return self.fields[name]
        raise AttributeError(f"the record has no field {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.type, self.fields) == (other.type, other.fields)

    def __hash__(self) -> int:
        return hash((self.type, tuple(self.fields)))

    def __repr__(self) -> str:
        return f"{self.type.rpartition('.')[2]}({', '.join(f'{k}={v!r}' for k, v in self.fields.items())})"


class RemoteError(Exception):
    """An exception from the run, as a value: ``type`` is its class's name, ``text`` what it says."""

    def __init__(self, type: str, text: str) -> None:
        self.type = type
        self.text = text
        super().__init__(type, text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteError) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)

    def __str__(self) -> str:
        name = self.type.rpartition(".")[2]
        return f"{name}: {self.text}" if self.text else name


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """A value that stays in the run: the name of its class, and its repr, cut."""

    type: str
    text: str

    def __repr__(self) -> str:
        return self.text


def opened(value: Any) -> Any:
    """A client's value with a dict in place of each :class:`Record`: the run takes it for what its own code says."""
    if isinstance(value, Record):
        return opened(value.fields)
    if type(value) is dict:
        return {key: opened(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(opened, value))
    return value


# -- to bytes -------------------------------------------------------------------------------------------------


def pack(value: object, limit: int | None = None) -> bytes:
    """The bytes of a value. Raises :class:`NotSendable` for one nested too deeply, or over ``limit`` bytes."""
    try:
        data = _pack(value, 0)
    except (ValueError, OverflowError, RecursionError) as error:
        raise NotSendable(f"the value cannot be sent: {error}; send less of it, or a text") from error
    if limit is not None and len(data) > limit:
        raise NotSendable(f"the value takes {len(data)} bytes, and {limit} may be sent; send less of it")
    return data


def _pack(value: object, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    data: bytes = msgpack.packb(
        value, strict_types=True, unicode_errors="surrogatepass", default=lambda other: _extend(other, depth + 1)
    )
    return data


def _extend(value: Any, depth: int) -> Any:
    """What msgpack does not know, as something that it does."""
    for base, convert in _PLAIN:
        if isinstance(value, base):
            return convert(value)
    for kind, code, parts in _PARTS:
        if isinstance(value, kind):
            return msgpack.ExtType(code, _pack(parts(value), depth))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        return msgpack.ExtType(RECORD, _pack([_name(value), fields], depth))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    known = _moment(value) or _known(value, depth)
    if known is not None:
        return known
    return msgpack.ExtType(OPAQUE, _pack([_name(value), safe_repr(value, REPR_LIMIT)], depth))


def _big(value: int) -> Any:
    value = int(value)  # a subclass of int, such as an enum's member, is small as a rule
    if -(1 << 63) <= value < 1 << 64:
        return value
    return msgpack.ExtType(BIG, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # as in safe_repr: a broken __str__ must not cost the answer
        return f"(its str raised {type(broken).__name__})"


def _known(value: Any, depth: int) -> Any:
    """A value of a module that the program has imported, if any of it is one."""
    for module, kind in (("decimal", "Decimal"), ("uuid", "UUID")):
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], kind)):
            return str(value)
    if "pydantic" in sys.modules and isinstance(value, sys.modules["pydantic"].BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return msgpack.ExtType(RECORD, _pack([_name(value), fields], depth))
    return None


def _moment(value: Any) -> Any:
    import datetime  # only a value of its could be one

    match value:
        case datetime.datetime():
            return msgpack.ExtType(DATETIME, value.isoformat().encode())
        case datetime.date():
            return msgpack.ExtType(DATE, value.isoformat().encode())
        case datetime.time():
            return msgpack.ExtType(TIME, value.isoformat().encode())
        case datetime.timedelta():
            return msgpack.ExtType(TIMEDELTA, _pack([value.days, value.seconds, value.microseconds], 0))
    return None


_PLAIN: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (int, _big),
    (str, str.__str__),
    (float, float),
    (bytes, bytes),
    (bytearray, bytes),
    (memoryview, bytes),
    (dict, lambda value: {**value}),
    (list, lambda value: [*value]),
)
"""Subclasses of what msgpack knows are sent as that."""

_PARTS: Final[tuple[tuple[type, int, Callable[[Any], Any]], ...]] = (
    (tuple, TUPLE, list),
    (set, SET, list),
    (frozenset, FROZENSET, list),
    (BaseException, ERROR, lambda error: [_name(error), _said(error)]),
)


def _name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- from bytes -----------------------------------------------------------------------------------------------


def unpack(data: bytes) -> Any:
    """The value of bytes that :func:`pack` made. Raises ValueError (as do most of msgpack's errors)."""
    return _Decoder().unpack(data)


def unpacker(limit: int) -> Any:
    """A ``msgpack.Unpacker`` for a stream of values of at most ``limit`` bytes each."""
    return msgpack.Unpacker(max_buffer_size=limit, **_Decoder().options)


class _Decoder:
    """Counts the depth of extension types within each other."""

    def __init__(self) -> None:
        self._depth = 0
        self.options: dict[str, Any] = {
            "strict_map_key": False,
            "unicode_errors": "surrogatepass",
            "ext_hook": self._extended,
        }

    def unpack(self, data: bytes) -> Any:
        return msgpack.unpackb(data, **self.options)

    def _extended(self, code: int, data: bytes) -> Any:
        if self._depth > MAX_DEPTH:
            raise ValueError(f"values are nested deeper than {MAX_DEPTH}")
        self._depth += 1
        try:
            return self._value(code, data)
        except (TypeError, AttributeError, OverflowError) as error:  # its parts are not what its code says
            raise ValueError(f"the value of extension type {code} does not have its shape: {error}") from error
        finally:
            self._depth -= 1

    def _value(self, code: int, data: bytes) -> Any:
        match code:
            case 1:
                return int.from_bytes(data, "little", signed=True)
            case 2:
                return tuple(self.unpack(data))
            case 3:
                return set(self.unpack(data))
            case 4:
                return frozenset(self.unpack(data))
            case 5 | 6 | 7 | 8:
                return self._moment(code, data)
            case 9:
                return Record(*_two(self.unpack(data), str, dict))
            case 10:
                return RemoteError(*_two(self.unpack(data), str, str))
            case 11:
                return Opaque(*_two(self.unpack(data), str, str))
        return msgpack.ExtType(code, data)  # of a newer protocol

    def _moment(self, code: int, data: bytes) -> Any:
        import datetime

        if code == TIMEDELTA:
            days, seconds, microseconds = self.unpack(data)
            return datetime.timedelta(days, seconds, microseconds)
        kinds: dict[int, Any] = {DATETIME: datetime.datetime, DATE: datetime.date, TIME: datetime.time}
        return kinds[code].fromisoformat(data.decode())


def _two(value: Any, first: type, second: type) -> tuple[Any, Any]:
    one, other = value
    if not (isinstance(one, first) and isinstance(other, second)):
        raise ValueError("an extension type's value does not have its shape")
    return one, other


# -- for JSON -------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The value as JSON has it: tuples and sets are lists, bytes and times are texts, a record is a map of its fields
    and ``"type"``, an exception a map of ``"error"`` and ``"text"``."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else repr(value)  # JSON has no NaN, no infinity
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case Mapping():
            return {key if isinstance(key, str) else repr(key): plain(item) for key, item in value.items()}
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Record():
            return {"type": value.type, **plain(value.fields)}
        case RemoteError():
            return {"error": value.type, "text": value.text}
        case Opaque():
            return value.text
    return str(value)
