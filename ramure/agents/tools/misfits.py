"""Pydantic's errors in our words: where, as ``items[2].name``, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ramure.agents.tools.shapes import (
    DATE,
    DATE_TIME,
    DECIMAL,
    DURATION,
    MAX_SAFE_INTEGER,
    TIME,
    TOO_LARGE,
    UUID,
    WANTED,
    shown,
)

__all__ = ["first_misfit", "path_text"]

_REASONS: Final = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "none_required": "must be null",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "iterable_type": "must be a list",
    "sequence_str": "must be a list",
    "arguments_type": "must be a list",
    "dict_type": "must be an object",
    "mapping_type": "must be an object",
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
    "model_attributes_type": "must be an object",
    "decimal_type": WANTED[DECIMAL],
    "decimal_parsing": WANTED[DECIMAL],
    "bytes_type": "must be a text",
    "path_type": "must be a path",
    "date_type": WANTED[DATE],
    "date_parsing": WANTED[DATE],
    "datetime_type": WANTED[DATE_TIME],
    "datetime_parsing": WANTED[DATE_TIME],
    "time_type": WANTED[TIME],
    "time_parsing": WANTED[TIME],
    "time_delta_type": WANTED[DURATION],
    "time_delta_parsing": WANTED[DURATION],
    "uuid_type": WANTED[UUID],
    "uuid_parsing": WANTED[UUID],
}
_ABSENT: Final = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "extra_forbidden": "there is no such field",
    "unexpected_keyword_argument": "there is no such field",
}
_OF_TAGS: Final = {"union_tag_invalid", "union_tag_not_found"}
"""A union whose members have a field that says which of them it is."""

_WHOLE: Final = ("int_type", "int_from_float", "int_parsing")

Path = tuple[str | int, ...]


def path_text(path: Sequence[str | int]) -> str:
    """A path as Python would write it: ``items[2].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def first_misfit(errors: Iterable[Mapping[str, Any]], value: Any) -> tuple[Path, str]:
    """Where and why ``value`` does not fit. Of the alternatives of a union, the one that was understood best says it."""
    found = [(_path(error, value), error) for error in errors]
    top = found[0][0][:1]
    found = [(path, error) for path, error in found if path[:1] == top]
    depth = max(len(path) for path, _ in found)
    path = next(path for path, _ in found if len(path) == depth)
    reasons = dict.fromkeys(_reason(error) for where, error in found if where == path)
    last = next(error for where, error in found if where == path)
    text = ", or ".join(reasons)
    given = any(text.startswith(reason) for reason in _ABSENT.values()) or ", not " in text
    return path, text if given else f"{text}, not {shown(last['input'])}"


def _path(error: Mapping[str, Any], value: Any) -> Path:
    """The error's place without the names of the alternatives of unions, which pydantic puts between."""
    path: list[str | int] = []
    for number, step in enumerate(error["loc"]):
        last = number == len(error["loc"]) - 1
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
        elif not (last and error["type"] in _ABSENT) and not (path == [] and number == 0):
            continue
        path.append(step)
    tag = _tag(error)
    return (*path, tag) if tag is not None else tuple(path)


def _tag(error: Mapping[str, Any]) -> str | None:
    """The field that says which member of a union a value is."""
    found = re.fullmatch(r"'(\w+)'", error["ctx"]["discriminator"]) if error["type"] in _OF_TAGS else None
    return found[1] if found is not None else None


def _reason(error: Mapping[str, Any]) -> str:
    kind, given = error["type"], error["input"]
    if kind in _WHOLE and isinstance(given, float) and abs(given) > MAX_SAFE_INTEGER and given.is_integer():
        return f"{TOO_LARGE}, not {given!r}"
    if (tag := _tag(error)) is not None:
        if kind == "union_tag_not_found":
            return _ABSENT["missing"]
        return f"must be {' or '.join(error['ctx']['expected_tags'].split(', '))}, not {shown(given[tag])}"
    reason = _ABSENT.get(kind) or _REASONS.get(kind)
    if reason is not None:
        return reason
    if kind in ("literal_error", "enum"):
        return f"must be {error['ctx']['expected']}"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub(r"^[A-Z][a-z]+( [a-z]+)? should ", "must ", text)
