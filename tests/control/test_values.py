"""Values that go over the control socket: what arrives is what was sent, or says what it was."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramure.runtime.control.errors import NotSendable
from ramure.runtime.control.values import Opaque, Record, RemoteError, pack, plain, unpack
from tests.scale import examples

UTC = datetime.UTC


@dataclasses.dataclass
class Point:
    x: int
    y: Any


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        None,
        2**64,
        -(2**63) - 1,
        10**400,
        -(10**400),
        b"\x00\xff",
        (1, (2, [3, (4,)])),
        {1, 2},
        frozenset({"a"}),
        {(1, 2): "tuple key", 3: "int key", None: 1},
        datetime.datetime(2026, 11, 22, 12, 30, 0, 5, tzinfo=UTC),
        datetime.datetime(2026, 11, 22),  # noqa: DTZ001 - a naive one stays naive
        datetime.date(2026, 11, 22),
        datetime.time(12, 30),
        datetime.timedelta(days=-3, microseconds=7),
        float("inf"),
        "\udcff surrogate",
        "é" * 10,
        {"deep": [{"er": [(1, {2})]}]},
    ],
    ids=repr,
)
def test_what_is_sent_arrives(value: Any) -> None:
    arrived = unpack(pack(value))
    assert arrived == value
    assert type(arrived) is type(value)


def test_a_dataclass_arrives_with_its_fields() -> None:
    arrived = unpack(pack([Point(1, Point(2**70, (3,)))]))[0]
    assert arrived.type == f"{__name__}.Point"
    assert (arrived.x, arrived.y.x, arrived.y.y) == (1, 2**70, (3,))
    assert repr(arrived) == f"Point(x=1, y=Point(x={2**70}, y=(3,)))"
    assert arrived == Record(arrived.type, {"x": 1, "y": arrived.y})
    with pytest.raises(AttributeError, match="no field 'z'"):
        _ = arrived.z


def test_an_exception_arrives_with_its_type_and_text() -> None:
    error = unpack(pack(ValueError("bad thing")))
    assert error == RemoteError("ValueError", "bad thing")
    assert str(error) == "ValueError: bad thing"
    assert isinstance(error, Exception)


def test_subclasses_arrive_as_what_they_are_and_strangers_as_their_repr() -> None:
    assert unpack(pack([Pair(1, 2), OrderedDict(a=1), Level.HIGH, bytearray(b"x"), True])) == [
        (1, 2),
        {"a": 1},
        3,
        b"x",
        True,
    ]
    opaque = unpack(pack(len))
    assert opaque == Opaque("builtin_function_or_method", "<built-in function len>")
    assert len(unpack(pack(type("Long", (), {"__repr__": lambda self: "x" * 10_000})())).text) == 1000


def test_values_that_a_text_stands_for_arrive_as_that() -> None:
    number = uuid.UUID(int=7)
    assert unpack(pack([Colour.RED, Decimal("1.50"), number, Path("a/b")])) == ["red", "1.50", str(number), "a/b"]


def test_a_pydantic_model_arrives_with_its_fields() -> None:
    class Order(pydantic.BaseModel):
        id: int
        at: datetime.date

    arrived = unpack(pack(Order(id=2**70, at=datetime.date(2026, 11, 22))))
    assert (arrived.id, arrived.at) == (2**70, datetime.date(2026, 11, 22))
    assert arrived.type.endswith(".Order")


def test_what_cannot_be_sent_is_refused_with_the_reason() -> None:
    endless: list[Any] = []
    endless.append(endless)
    circle: list[Any] = []
    circle.extend([(circle,), (circle,)])
    for value in (endless, circle):
        with pytest.raises(NotSendable, match="cannot be sent"):
            pack(value)
    with pytest.raises(NotSendable, match="takes 105 bytes, and 100 may be sent"):
        pack(b"x" * 103, limit=100)


def test_bytes_that_no_value_made_raise_value_errors() -> None:
    nested = pack(())
    for _ in range(200):
        nested = b"\xc8" + len(nested).to_bytes(2, "big") + b"\x02" + nested
    for data in (nested, b"\xc7\x01\x05x", b"\xc7\x01\x09\x01", b"\xc1", b""):
        with pytest.raises(ValueError, match=r".*"):
            unpack(data)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=20,
)


@settings(max_examples=examples(1000))
@given(values)
def test_any_value_arrives_and_has_a_json_form(value: Any) -> None:
    import json

    arrived = unpack(pack(value))
    assert arrived == value
    assert type(arrived) is type(value)
    json.dumps(plain(arrived), allow_nan=False)
