"""A JSON value against the JSON Schema that a model was given, as far as pydantic accepts more than the schema says.

Pydantic takes ``"1700000000"`` for a time, ``true`` for ``Literal[1]``, and an object for a NamedTuple. What the schema
refuses is refused, so that pi, which checks by the schema, and the program agree. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "DATE",
    "DATE_TIME",
    "DECIMAL",
    "DURATION",
    "INTEGER_KEY",
    "MAX_SAFE_INTEGER",
    "TIME",
    "TOO_LARGE",
    "UUID",
    "WANTED",
    "from_javascript",
    "holds_rounded",
    "is_json",
    "misfit",
    "rounded_in",
    "says_more",
    "shown",
    "whole",
]

MAX_SAFE_INTEGER: Final = (1 << 53) - 1
"""The largest that JavaScript, the extension's language, holds exactly."""

_DAY: Final = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK: Final = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?"
DATE: Final = f"^[0-9]{{4}}-{_DAY}$"
DATE_TIME: Final = f"^[0-9]{{4}}-{_DAY}[Tt ]{_CLOCK}$"
TIME: Final = f"^{_CLOCK}$"
DURATION: Final = (
    r"^[+-]?P(?=[0-9T])([0-9]{1,6}Y)?([0-9]{1,6}M)?([0-9]{1,6}W)?([0-9]{1,8}D)?"
    r"(T(?=[0-9])([0-9]{1,9}H)?([0-9]{1,9}M)?([0-9]{1,9}(\.[0-9]+)?S)?)?$"
)
UUID: Final = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"
DECIMAL: Final = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
INTEGER_KEY: Final = r"^(0|-?[1-9][0-9]*)$"

WANTED: Final = {
    DATE: "must be a date such as 2024-05-31",
    DATE_TIME: "must be a date and time such as 2024-05-31T10:00:00Z",
    TIME: "must be a time such as 10:00:00",
    DURATION: "must be a duration such as PT1H30M or P2D",
    UUID: "must be a UUID such as 12345678-1234-5678-1234-567812345678",
    DECIMAL: "must be a decimal number",
    INTEGER_KEY: "must be a whole number",
}
"""What a text must be that one of our patterns refuses. A user's own patterns are pydantic's to check."""

_OURS: Final = {pattern: re.compile(pattern.removeprefix("^").removesuffix("$")) for pattern in WANTED}


class Rounded(float):
    """A whole number that JavaScript had to round, or may have."""


def from_javascript(value: Any) -> Any:
    """A value as JavaScript had it: an int that it cannot hold exactly is a :class:`Rounded`."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_SAFE_INTEGER:
        try:
            return Rounded(value)
        except OverflowError:
            return Rounded(math.copysign(math.inf, value))
    if isinstance(value, list):
        return [from_javascript(item) for item in value]
    if isinstance(value, dict):
        return {key: from_javascript(item) for key, item in value.items()}
    return value


def rounded_in(value: Any) -> int | None:
    """A number in a schema that JavaScript cannot hold exactly; None if there is none."""
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return next((found for found in map(rounded_in, parts) if found is not None), None)
    return value if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER else None


def whole(value: Any) -> Any:
    """A JSON value whose whole floats are ints, as JSON Schema takes them; the same object if there are none."""
    if isinstance(value, float) and not isinstance(value, Rounded):
        return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value
    if isinstance(value, list):
        items = [whole(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        found = {key: whole(item) for key, item in value.items()}
        return found if any(found[key] is not value[key] for key in value) else value
    return value


def holds_rounded(value: Any) -> bool:
    """True if a number in it may have been rounded."""
    if isinstance(value, list | dict):
        return any(map(holds_rounded, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Rounded)


def is_json(value: object) -> bool:
    """True for what JSON has, and Python has no more of: no subclass, no tuple, no infinity."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is list:
        return all(map(is_json, value))  # type: ignore[call-overload]
    if kind is dict:
        return all(type(key) is str and is_json(item) for key, item in value.items())  # type: ignore[attr-defined]
    return value is None or kind in (str, int, bool)


def shown(value: object) -> str:
    """A value in an error's text: its kind, and itself, cut."""
    kind = next((text for base, text in _KINDS if isinstance(value, base)), type(value).__name__)
    if value is None:
        return "null"
    if isinstance(value, float) and MAX_SAFE_INTEGER < abs(value) < 1e21:  # JavaScript writes it so
        value = int(value) if value.is_integer() else value
    try:
        text = repr(value)
    except Exception:  # its own __repr__, or an int with more digits than Python writes
        return kind
    return f"{kind} ({text if len(text) <= 60 else text[:57] + '...'})"


_KINDS: Final = (
    (str, "a text"),
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
)

_TYPES: Final[dict[str, tuple[Any, str]]] = {
    "string": (str, "must be a text"),
    "integer": (int, "must be a whole number"),
    "number": ((int, float), "must be a number"),
    "boolean": (bool, "must be true or false"),
    "null": (type(None), "must be null"),
    "array": (list, "must be a list"),
    "object": (dict, "must be an object"),
}

TOO_LARGE: Final = (
    f"must be a whole number from -{MAX_SAFE_INTEGER} to {MAX_SAFE_INTEGER}: JSON in JavaScript rounds larger ones; "
    "give such a number as a text, where one is taken"
)


class _Misfit(Exception):
    """``path`` is where in the value, as keys and indexes."""

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        self.reason = reason
        self.path = path
        super().__init__(reason)


def misfit(schema: Mapping[str, Any], value: Any) -> tuple[tuple[str | int, ...], str] | None:
    """Where and why ``schema`` refuses ``value``, which pydantic has accepted; None if it does not."""
    try:
        _check(schema, value, schema.get("$defs", {}))
    except _Misfit as found:
        return found.path, found.reason
    return None


def says_more(schema: Any) -> bool:
    """False for a schema that refuses nothing that pydantic takes in its place."""
    if isinstance(schema, list):
        return any(map(says_more, schema))
    if not isinstance(schema, dict):
        return schema is True
    if not schema or schema.keys() & {"const", "enum", "prefixItems", "propertyNames"}:
        return True
    if schema.get("pattern") in _OURS or not schema.keys() & {"type", *_REFERS}:
        return True
    if schema.get("type") == "number" and _bounds(schema):
        return True
    fields = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    return any(map(says_more, fields)) or any(says_more(schema.get(key, False)) for key in _WITHIN)


_WITHIN: Final = ("items", "additionalProperties", "anyOf", "oneOf", "allOf")


def _bounds(schema: Mapping[str, Any]) -> bool:
    """True if it wants numbers that JavaScript holds exactly."""
    return schema.get("maximum") == MAX_SAFE_INTEGER or schema.get("minimum") == -MAX_SAFE_INTEGER


def _check(schema: Any, value: Any, defs: Mapping[str, Any]) -> None:
    if not isinstance(schema, dict):
        schema = {}
    if "$ref" in schema:
        _check(defs[schema["$ref"].rpartition("/")[2]], value, defs)
    _check_alone(schema, value)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            _check_any(schema[key], value, defs)
    for part in schema.get("allOf", ()):
        _check(part, value, defs)
    if isinstance(value, str):
        _check_text(schema, value)
    elif isinstance(value, list):
        _check_items(schema, value, defs)
    elif isinstance(value, dict):
        _check_fields(schema, value, defs)


def _check_alone(schema: Mapping[str, Any], value: Any) -> None:
    """The value itself, not what is in it."""
    if "type" in schema:
        _check_type(schema["type"], value)
    elif isinstance(value, Rounded) and not schema.keys() & set(_REFERS):
        raise _Misfit(TOO_LARGE)
    if isinstance(value, float) and abs(value) > MAX_SAFE_INTEGER and _bounds(schema):
        raise _Misfit(TOO_LARGE.replace("a whole number", "a number"))
    allowed = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if allowed and not any(_same(value, each) for each in allowed):
        raise _Misfit(f"must be {' or '.join(map(repr, allowed))}, not {shown(value)}")


_REFERS: Final = ("$ref", "anyOf", "oneOf", "allOf")


def _check_type(type_: Any, value: Any) -> None:
    names = type_ if isinstance(type_, list) else [type_]
    for name in names:
        kind, _ = _TYPES[name]
        if isinstance(value, kind) and (name == "boolean" or not isinstance(value, bool)):
            if isinstance(value, float) and not math.isfinite(value):
                raise _Misfit("must be a finite number")
            return
        if name == "integer" and isinstance(value, float) and not isinstance(value, Rounded) and value.is_integer():
            return
    raise _Misfit(f"{_TYPES[names[0]][1]}, not {shown(value)}")


def _same(value: Any, allowed: Any) -> bool:
    """Equal as JSON: 1 is not true."""
    return bool(value == allowed) and isinstance(value, bool) == isinstance(allowed, bool)


def _check_any(choices: list[Any], value: Any, defs: Mapping[str, Any]) -> None:
    found: list[_Misfit] = []
    for choice in choices:
        try:
            _check(choice, value, defs)
        except _Misfit as each:
            found.append(each)
        else:
            return
    raise max(found, key=lambda each: len(each.path))


def _check_text(schema: Mapping[str, Any], value: str) -> None:
    pattern = schema.get("pattern", "")
    if pattern in _OURS and not _OURS[pattern].fullmatch(value):
        raise _Misfit(f"{WANTED[pattern]}, not {shown(value)}")


def _check_items(schema: Mapping[str, Any], value: list[Any], defs: Mapping[str, Any]) -> None:
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        kind = first[index] if index < len(first) else schema.get("items", {})
        _within(index, kind, item, defs)


def _check_fields(schema: Mapping[str, Any], value: dict[str, Any], defs: Mapping[str, Any]) -> None:
    known, names, more = (
        schema.get("properties", {}),
        schema.get("propertyNames"),
        schema.get("additionalProperties", {}),
    )
    for key, item in value.items():
        if names is not None:
            _within(key, names, key, defs)
        _within(key, known.get(key, more), item, defs)


def _within(step: str | int, schema: Any, value: Any, defs: Mapping[str, Any]) -> None:
    try:
        _check(schema, value, defs)
    except _Misfit as found:
        raise _Misfit(found.reason, (step, *found.path)) from None
