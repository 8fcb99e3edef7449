"""Declarations as users of FastAPI and pydantic-ai write them: what the handler gets, and what is said of those that cannot be."""

from __future__ import annotations

import collections.abc as cabc
import dataclasses
import datetime as dt
import enum
import functools
import ipaddress
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, Self, TypeAlias, TypeVar

import jsonschema
import pydantic
import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field

from ramure.agents.tools.fields import InvalidArguments
from ramure.agents.tools.schema import Tool, UnsupportedParameter
from ramure.agents.tools.signatures import Signature
from ramure.runtime.process.endpoints import Endpoint


def named(value: object) -> str:
    """A parameter's id, the same in each process: xdist compares them."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:40]


T = TypeVar("T")
UserId = NewType("UserId", int)
Ids: TypeAlias = "list[UserId]"
Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Endless: TypeAlias = "dict[str, Endless] | int"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREY = "grey"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class User(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    name: str = Field(alias="userName", description="as at login")

    @pydantic.field_validator("name")
    @classmethod
    def _upper(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("must be in upper case")
        return value


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: int | None = None


class Node(BaseModel):
    name: str
    below: list[Node] = []


@dataclasses.dataclass
class Branch:
    left: Branch | None = None
    leaves: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Painted:
    color: Literal[Color.RED]


class Stranger:
    """No JSON value is one."""


class Shop:
    def close(self, at: dt.time) -> dt.time:
        """Close it."""
        return at

    def merge(self, other: Self) -> None: ...

    @classmethod
    def opened(cls, at: dt.time) -> dt.time:
        return at

    @staticmethod
    def idle(at: dt.time) -> dt.time:
        return at

    async def reopen(self, at: dt.time) -> dt.time:
        return at

    def __call__(self, at: dt.time) -> dt.time:
        return at


def both(function: Callable[..., Any]) -> list[Callable[[dict[str, Any]], dict[str, Any]]]:
    """What binds the arguments of a tool, and of an endpoint."""
    endpoint = Endpoint.of(function, "it")
    return [Tool.of(function, "it").bind, lambda arguments: endpoint.bind(arguments, {})]


def takes(annotation: Any) -> Callable[..., Any]:
    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": annotation}
    return function


FITS: list[tuple[Any, Any, Any]] = [
    (Pet, {"kind": "cat", "lives": 3}, Cat(kind="cat", lives=3)),
    (list[Pet], [{"kind": "dog"}], [Dog(kind="dog")]),
    (User, {"userName": "ANN"}, User(name="ANN")),
    (Page[int], {"items": [1]}, Page[int](items=[1])),
    (Page[Cat], {"items": [{"kind": "cat"}], "next": 2}, Page[Cat](items=[Cat(kind="cat")], next=2)),
    (UserId, 7, 7),
    (Ids, [7], [7]),
    (Json, {"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
    (Node, {"name": "a", "below": [{"name": "b"}]}, Node(name="a", below=[Node(name="b")])),
    (Branch, {"left": {"leaves": [1]}}, Branch(Branch(leaves=[1]))),
    (Literal[Color.RED, Color.BLUE], "blue", Color.BLUE),
    (Literal[Color.RED, "none"] | None, "none", "none"),
    (list[Literal[Level.LOW]], [1], [Level.LOW]),
    (dict[str, Literal[Color.RED]], {"a": "red"}, {"a": Color.RED}),
    (Annotated[Literal[Color.RED], "the only one"], "red", Color.RED),
    (Sequence[int], [1], [1]),
    (Iterable[dt.date], ["2024-05-31"], [dt.date(2024, 5, 31)]),
    (dict[str, Iterable[int]], {"a": [1]}, {"a": [1]}),
    (Collection[int], [1], [1]),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (MutableMapping[str, int], {"a": 1}, {"a": 1}),
    (cabc.Set[int], [1, 1], frozenset({1})),
    (frozenset[str], ["a"], frozenset("a")),
    (ipaddress.IPv4Address, "10.0.0.1", ipaddress.IPv4Address("10.0.0.1")),
    (re.Pattern[str], "a+", re.compile("a+")),
    (typing.LiteralString, "a", "a"),
    (Any, [1], [1]),
    (object, None, None),
]


@pytest.mark.parametrize(("annotation", "given", "got"), FITS, ids=named)
def test_the_handler_gets_a_value_of_the_type(annotation: Any, given: Any, got: Any) -> None:
    for bind in both(takes(annotation)):
        found = bind({"value": given})["value"]
        assert found == got
        assert type(found) is type(got)


@pytest.mark.parametrize(
    ("annotation", "given", "why"),
    [
        (Pet, {"kind": "cow"}, "value.kind: must be 'cat' or 'dog', not a text ('cow')"),
        (Pet, {"lives": 3}, "value.kind: is missing"),
        (list[Pet], [{"kind": "dog", "good": "yes"}], "value[0].good: must be true or false, not a text ('yes')"),
        (User, {"userName": "ann"}, "value.userName: must be in upper case, not a text ('ann')"),
        (User, {}, "value.userName: is missing"),
        (Page[int], {"items": ["a"]}, "value.items[0]: must be a whole number, not a text ('a')"),
        (Node, {"name": "a", "below": [{"name": 1}]}, "value.below[0].name: must be a text, not a number (1)"),
        (Literal[Color.RED, Color.BLUE], "grey", "value: must be 'red' or 'blue', not a text ('grey')"),
        (Literal[Color.RED, Color.BLUE], "RED", "value: must be 'red' or 'blue', not a text ('RED')"),
        (list[Literal[Level.LOW]], [2], "value[0]: must be 1, not a number (2)"),
        (Sequence[str], "abc", "value: must be a list, not a text ('abc')"),
        (Iterable[int], [1, "a"], "value[1]: must be a whole number, not a text ('a')"),
    ],
    ids=named,
)
def test_what_does_not_fit_is_refused_with_the_field_and_the_reason(annotation: Any, given: Any, why: str) -> None:
    for bind in both(takes(annotation)):
        with pytest.raises(InvalidArguments) as refused:
            bind({"value": given})
        assert str(refused.value) == why


def test_the_schema_shows_members_of_an_enum_in_a_literal_as_their_values() -> None:
    made = Tool.of(takes(Literal[Color.RED, Color.BLUE, "none"] | None))
    assert made.parameters["properties"]["value"]["anyOf"] == [
        {"enum": ["red", "blue", "none"], "type": "string"},
        {"type": "null"},
    ]


def test_a_member_itself_may_be_given_by_a_program() -> None:
    endpoint = Endpoint.of(takes(Literal[Color.RED, Level.LOW]), "it")
    assert endpoint.bind({"value": Color.RED}, {}) == {"value": Color.RED}
    assert endpoint.bind({}, {"value": "1"}) == {"value": Level.LOW}
    with pytest.raises(InvalidArguments, match="value: must be 'red' or 1"):
        endpoint.bind({"value": Color.BLUE}, {})


def test_values_beside_an_object_of_python_s_are_converted_as_ever() -> None:
    def take(it: Stranger, on: dt.date, tags: set[str]) -> None: ...

    endpoint = Endpoint.of(take, "it")
    stranger = Stranger()
    assert endpoint.bind({"it": stranger, "on": "2024-05-31", "tags": ["a"]}, {}) == {
        "it": stranger,
        "on": dt.date(2024, 5, 31),
        "tags": {"a"},
    }
    with pytest.raises(InvalidArguments, match=r"it: must be an instance of Stranger, not a number \(1\)"):
        endpoint.bind({"it": 1, "on": "2024-05-31", "tags": ["a"]}, {})


@pytest.mark.parametrize(
    "function",
    [
        Shop().close,
        Shop.opened,
        Shop().opened,
        Shop.idle,
        Shop().reopen,
        Shop(),
        functools.partial(Shop.close, Shop()),
        functools.partial(lambda first, at: at, 1),
    ],
    ids=lambda function: getattr(function, "__qualname__", type(function).__name__),
)
def test_methods_partials_and_callable_objects_are_tools_and_endpoints(function: Any) -> None:
    for bind in both(function):
        [(name, found)] = bind({"at": "10:00"}).items()
        assert name == "at"
        assert found in (dt.time(10), "10:00")  # of a lambda it is anything


def test_an_optional_argument_without_a_default_must_be_given() -> None:
    def take(a: int | None, *, b: int | None = None) -> None: ...

    for bind in both(take):
        assert bind({"a": None}) == {"a": None}
        with pytest.raises(InvalidArguments, match="a: is missing"):
            bind({})


def test_an_endpoint_takes_more_names_where_it_says_so() -> None:
    def take(a: int, *rest: int, **more: str) -> None: ...

    assert Endpoint.of(take, "it").bind({"a": 1, "b": "x"}, {}) == {"a": 1, "b": "x"}


def test_names_are_looked_up_where_the_function_is_declared() -> None:
    """The declaration may be passed on by a function of the user's own."""

    def declare(function: Callable[..., Any]) -> list[Callable[[dict[str, Any]], dict[str, Any]]]:
        Local = None  # not the one that is meant  # noqa: F841
        return both(function)

    class Local(BaseModel):
        n: int

    def take(one: Local, many: list[Local]) -> None: ...

    for bind in declare(take):
        assert bind({"one": {"n": 1}, "many": [{"n": 2}]}) == {"one": Local(n=1), "many": [Local(n=2)]}


def of_positions(a: int, /, b: int) -> None: ...


def of_stars(a: int, *args: int) -> None: ...


def of_names(**kwargs: int) -> None: ...


def with_alias(a: str = Field("x", alias="b")) -> None: ...


def with_final(a: typing.Final[int], b: int) -> None: ...  # type: ignore[valid-type]


def with_a_value(a: 5, b: int) -> None: ...  # type: ignore[valid-type]


UNKNOWN = "its annotation names 'Endless', which is not found; import it, and not for type checkers alone; where a type contains itself, make it a class or a TypeAliasType"
BAD: list[tuple[Any, str]] = [
    (takes(Endless), UNKNOWN),
    (of_positions, "the parameter 'a'.*: it is called with named arguments only; give each argument a name of its own"),
    (
        Shop.close,
        r"'self'.*: it is a method of a class, and has no object; give that of an object: Class\(...\).method",
    ),
    (Shop().merge, "'other'.*: Self is known inside the class only; write the class's name$"),
    (
        with_alias,
        "'a'.*: its Field has an alias, and arguments have the names of parameters; give the parameter that name",
    ),
    (with_final, "'a'.*: its annotation 'typing.Final.int.' is no type"),
    (with_a_value, "'a'.*: 5 is no type"),
    (takes(typing.Never), "no value is of the type Never"),
    (takes(list[typing.NoReturn]), "no value is of the type NoReturn"),
]
NO_TOOLS: list[tuple[Any, str]] = [
    (of_stars, r"the parameter '\*args'.*: it is called with named arguments only"),
    (of_names, r"the parameter '\*\*kwargs'.*: it is called with named arguments only"),
    (takes(Stranger), "no JSON stands for Stranger; use str, int"),
    (takes(list[Stranger]), "no JSON stands for Stranger; use str, int"),
    (takes(Callable[[int], int]), "no JSON stands for Callable; use str, int"),
    (takes(type), "no JSON stands for type; use str, int"),
    (takes(bytearray), "no JSON stands for bytearray; use str, int"),
    (takes(dt.timezone), "no JSON stands for timezone; use str, int"),
    (takes(cabc.Iterator[int]), r"no JSON stands for Iterator\[int\]; use str, int"),
    (takes(Painted), "no JSON stands for a member of an Enum in a Literal; write the Enum, or a Literal of texts"),
    (takes(dict[float, int]), "JSON's keys are texts, and none is a float; use str$"),
]


@pytest.mark.parametrize(("function", "why"), [*BAD, *NO_TOOLS], ids=named)
def test_what_cannot_be_a_tool_is_refused_with_the_remedy(function: Any, why: str) -> None:
    with pytest.raises(UnsupportedParameter, match=why):
        Tool.of(function, "it")


@pytest.mark.parametrize(("function", "why"), BAD, ids=named)
def test_what_cannot_be_an_endpoint_is_refused_with_the_remedy(function: Any, why: str) -> None:
    with pytest.raises(UnsupportedParameter, match=why):
        Endpoint.of(function, "it")


@pytest.mark.parametrize("value", [2**53, -(2**53), 1e16, 1e20, 1e300, -1e300])
def test_a_number_that_javascript_rounds_is_no_decimal_and_its_text_is(value: float) -> None:
    def pay(amount: Decimal, all: list[Decimal] | None = None) -> None:
        """Pay."""

    tool = Tool.of(pay)
    for sent in ({"amount": value}, {"amount": 1, "all": [value]}):
        with pytest.raises(InvalidArguments, match="must be a number from -9007199254740991 to 9007199254740991"):
            tool.bind(sent)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(sent, tool.parameters)
    assert tool.bind({"amount": str(value)}) == {"amount": Decimal(str(value))}
    if isinstance(value, int):  # a program's is exact
        assert Signature.of(pay, of_python=True).bind_python({"amount": value}) == {"amount": Decimal(value)}
