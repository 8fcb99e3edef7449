"""Types that a parameter may have, at random, with values of each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import itertools
import operator
import typing
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic
from hypothesis import strategies as st

__all__ = ["JSON", "Kind", "jsons", "kinds"]

SAFE: Final = 2**53 - 1
_numbers = itertools.count()

TEXTS: Final = (
    "2024-05-31",
    "2024-02-30",
    "2024-05-31T10:00:00Z",
    "2024-05-31 10:00",
    "1700000000",
    "10:00",
    "P1D",
    "-PT1H30M",
    "1:00:00",
    "2024-02-30T10:00",
    "2024-05-31T24:00:00Z",
    "2024-05-31T10:00:60",
    "24:00",
    "10:00:00.5+02:00",
    "P1W",
    "PT",
    "P",
    "PT0.5S",
    "P1Y2M3DT4H",
    "2024-13-01",
    "yes",
    "true",
    "null",
    "01",
    "1",
    "1.5",
    "NaN",
    "1_000",
    "a",
    "red",
    "12345678-1234-5678-1234-567812345678",
    "12345678123456781234567812345678",
)
"""Texts that some kind or another takes."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """``json``: which JSON values stand for one: of a union's parts, no two have one in common."""

    annotation: Any
    values: st.SearchStrategy[Any]
    json: frozenset[str]
    hashable: bool = False
    text_is_clear: bool = True
    """False where a person's words can mean several values."""

    def __repr__(self) -> str:
        return str(self.annotation)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    A = "a"
    ONE = 1
    NO = False


def _leaf(annotation: Any, values: st.SearchStrategy[Any], *json: str, hashable: bool = True) -> Kind:
    return Kind(annotation, values, frozenset(json), hashable)


ZONES: Final = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from((2**53, -(2**53), 2**60, 1.0, 2.5, 1e300))
    | st.sampled_from(TEXTS)
    | st.text(max_size=4)
)
JSON: Final = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.sampled_from(TEXTS), inner, max_size=3)
    ),
    max_leaves=4,
)
SAFE_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)

LEAVES: Final = (
    _leaf(str, st.text(), "text"),
    _leaf(int, st.integers(-SAFE, SAFE), "number"),
    _leaf(float, st.floats(allow_nan=False, allow_infinity=False), "number"),
    _leaf(bool, st.booleans(), "bool"),
    _leaf(bytes, st.text().map(str.encode), "text"),
    _leaf(Color, st.sampled_from(Color), "text"),
    _leaf(Level, st.sampled_from(Level), "number"),
    _leaf(Mixed, st.sampled_from(Mixed), "text", "number", "bool"),
    _leaf(Literal["a", "b"], st.sampled_from(("a", "b")), "text"),
    _leaf(Literal[1, True, "x"], st.sampled_from((1, True, "x")), "text", "number", "bool"),
    _leaf(dt.date, st.dates(), "text"),
    _leaf(dt.datetime, st.datetimes(timezones=ZONES), "text"),
    _leaf(dt.time, st.times(), "text"),
    _leaf(dt.timedelta, st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)), "text"),
    _leaf(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3), "text", "number"),
    _leaf(Path, st.text("abc/._é", min_size=1).map(Path), "text"),
    _leaf(uuid.UUID, st.uuids(), "text"),
    _leaf(Annotated[int, pydantic.Field(ge=0, lt=10)], st.integers(0, 9), "number"),
    _leaf(Annotated[float, pydantic.Field(gt=0)], st.floats(0.5, 10), "number"),
    _leaf(Annotated[str, pydantic.Field(min_length=1, max_length=3), "short"], st.text(min_size=1, max_size=3), "text"),
    Kind(Any, SAFE_JSON, frozenset({"any"}), text_is_clear=False),
)
KEYS: Final = (
    (str, st.text(max_size=5)),
    (int, st.integers(-100, 100)),
    (Color, st.sampled_from(Color)),
    (Literal["a", "b"], st.sampled_from(("a", "b"))),
    (dt.date, st.dates()),
    (uuid.UUID, st.uuids()),
)


def kinds() -> st.SearchStrategy[Kind]:
    """Any kind."""
    return st.recursive(st.sampled_from(LEAVES), _around, max_leaves=6)


def _around(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    lists = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map(_list),
        st.tuples(st.sampled_from(KEYS), inner).map(_dict),
        lists.map(_tuple),
        inner.map(lambda kind: _array(tuple[kind.annotation, ...], kind.values, tuple)),
        inner.map(_set),
        lists.map(_union),
        st.tuples(st.sampled_from((_dataclass, _typed_dict, _named_tuple, _model)), lists).map(
            lambda made: made[0](made[1])
        ),
    )


def _array(annotation: Any, items: st.SearchStrategy[Any], of: Callable[[Any], Any]) -> Kind:
    return Kind(annotation, st.lists(items, max_size=3).map(of), frozenset({"list"}))


def _list(kind: Kind) -> Kind:
    return _array(list[kind.annotation], kind.values, list)  # type: ignore[name-defined]


def _set(kind: Kind) -> Kind:
    if not kind.hashable:
        return _list(kind)
    return _array(frozenset[kind.annotation], kind.values, frozenset)  # type: ignore[name-defined]


def _dict(parts: tuple[tuple[Any, Any], Kind]) -> Kind:
    (key, keys), kind = parts
    values = st.dictionaries(keys, kind.values, max_size=3)
    return Kind(dict[key, kind.annotation], values, frozenset({"object"}))  # type: ignore[valid-type, name-defined]


def _tuple(parts: list[Kind]) -> Kind:
    annotation = tuple[tuple(part.annotation for part in parts)]  # type: ignore[misc]
    return Kind(annotation, st.tuples(*(part.values for part in parts)), frozenset({"list"}))


def _union(parts: list[Kind]) -> Kind:
    """Of those that no JSON value could be two of; alone, one may be absent."""
    chosen: list[Kind] = []
    for part in parts:
        if not any(part.json & other.json or "any" in (part.json | other.json) for other in chosen):
            chosen.append(part)
    json = frozenset[str]().union(*(part.json for part in chosen))
    hashable = all(part.hashable for part in chosen)
    clear = "text" not in json
    if len(chosen) == 1:
        if chosen[0].json & {"any", "null"}:
            return chosen[0]
        return Kind(chosen[0].annotation | None, st.none() | chosen[0].values, json | {"null"}, hashable, clear)
    annotation = functools.reduce(operator.or_, (part.annotation for part in chosen))
    return Kind(annotation, st.one_of(*(part.values for part in chosen)), json, hashable, clear)


def _named(parts: list[Kind]) -> dict[str, Kind]:
    return {f"f{number}": part for number, part in enumerate(parts)}


def _dataclass(parts: list[Kind]) -> Kind:
    made = dataclasses.make_dataclass(
        f"Data{next(_numbers)}", [(name, part.annotation) for name, part in _named(parts).items()]
    )
    return Kind(
        made, st.builds(made, **{name: part.values for name, part in _named(parts).items()}), frozenset({"object"})
    )


def _typed_dict(parts: list[Kind]) -> Kind:
    """Its first field is required, the others are not."""
    fields = {
        name: part.annotation if name == "f0" else typing.NotRequired[part.annotation]  # type: ignore[valid-type]
        for name, part in _named(parts).items()
    }
    make: Any = typing.TypedDict
    made = make(f"Dict{next(_numbers)}", fields)
    values = {name: part.values for name, part in _named(parts).items()}
    return Kind(made, st.fixed_dictionaries({"f0": values.pop("f0")}, optional=values), frozenset({"object"}))


def _named_tuple(parts: list[Kind]) -> Kind:
    make: Any = typing.NamedTuple
    made = make(f"Row{next(_numbers)}", [(name, part.annotation) for name, part in _named(parts).items()])
    return Kind(
        made, st.builds(made, **{name: part.values for name, part in _named(parts).items()}), frozenset({"list"})
    )


def _model(parts: list[Kind]) -> Kind:
    """A pydantic model cannot have a ``typing.TypedDict`` in it below Python 3.12: of such parts a dataclass is made."""
    make: Any = pydantic.create_model
    try:
        made = make(f"Model{next(_numbers)}", **{name: (part.annotation, ...) for name, part in _named(parts).items()})
    except pydantic.errors.PydanticUserError:
        return _dataclass(parts)
    return Kind(
        made, st.builds(made, **{name: part.values for name, part in _named(parts).items()}), frozenset({"object"})
    )


def jsons(like: Any) -> st.SearchStrategy[Any]:
    """JSON values near ``like``: one part of it is another value."""

    def within(value: Any) -> st.SearchStrategy[Any]:
        choices: list[st.SearchStrategy[Any]] = [JSON]
        if isinstance(value, list) and value:
            choices.append(
                st.integers(0, len(value) - 1).flatmap(
                    lambda at: within(value[at]).map(lambda new: [*value[:at], new, *value[at + 1 :]])
                )
            )
            choices.append(st.just(value[:-1]))
        if isinstance(value, dict) and value:
            choices.append(
                st.sampled_from(sorted(value)).flatmap(
                    lambda key: within(value[key]).map(lambda new: {**value, key: new})
                )
            )
            choices.append(st.sampled_from(sorted(value)).map(lambda key: {k: v for k, v in value.items() if k != key}))
            choices.append(JSON.map(lambda new: {**value, "more": new}))
        return st.one_of(*choices)

    return within(like)
