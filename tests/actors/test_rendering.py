"""Short texts of messages: as repr, cut, and never the work of a repr of megabytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.actors.messages import Call, Cast
from ramure.actors.observe.rendering import brief


@dataclass(frozen=True)
class Point:
    x: int
    label: str = "p"
    token: str = field(default="secret", repr=False)


@dataclass
class Own:
    x: int

    def __repr__(self) -> str:
        return "mine"


@dataclass(repr=False)
class Plain:
    x: int


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class BadList(list[Any]):
    def __repr__(self) -> str:
        raise ValueError("no")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.builds(Point, inner)
    ),
    max_leaves=20,
)


@given(values)
def test_what_is_short_is_its_repr(value: Any) -> None:
    whole = repr(value)
    text = brief(value, 100_000)
    if "…" not in text:
        assert text == whole.replace("\n", "\\n")
    assert len(brief(value, 40)) <= 40


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1), "Point(x=1, label='p')"),
        (Own(1), "mine"),
        (Broken(), "<Broken, whose repr raised RuntimeError>"),
        (BadList(), "<BadList, whose repr raised ValueError>"),
        (Cast([1, (2,)]), "cast [1, (2,)]"),
        (Call("add", (1,), {"to": {"a": {1}}}), "add(1, to={'a': {1}})"),
        (set(), "set()"),
        (frozenset({1}), "frozenset({1})"),
        (OrderedDict(a=1), repr(OrderedDict(a=1))),
        ("a\nb", r"'a\nb'"),
        ([10**5000], "[<int, whose repr raised ValueError>]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_how_values_look(value: object, text: str) -> None:
    assert brief(value) == text


def test_huge_messages_are_not_read() -> None:
    huge = [{"data": b"x" * 20_000_000, "more": ["y" * 20_000_000] * 1_000_000}] * 1_000_000
    text = brief(Cast(Point(huge)), 100)  # type: ignore[arg-type]
    assert len(text) == 100
    assert text.startswith("cast Point(x=[{'data': b'xxx")


def test_what_contains_itself_is_shown() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert brief(loop).count("[") < 10
