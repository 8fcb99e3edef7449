"""A tool's schema from a signature; a call's arguments by it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.agents.tools.results import result_of
from ramure.agents.tools.schema import InvalidArguments, Tool, UnsupportedParameter


class Pair(NamedTuple):
    a: int
    b: int = 0


async def example(
    text: str,
    count: int,
    ratio: float = 0.5,
    flag: bool = False,
    names: list[str] = [],  # noqa: B006
    table: dict[str, int] | None = None,
    mode: Literal["fast", "slow"] = "fast",
    where: Annotated[Optional[str], "a path"] = None,  # noqa: UP045
    anything: Any = None,
) -> str:
    """Does an example.

    With a second paragraph.
    """
    return repr((text, count, ratio, flag, names, table, mode, where, anything))


TOOL = Tool.of(example)


INTEGER = {"type": "integer", "minimum": -(2**53 - 1), "maximum": 2**53 - 1}


def test_the_schema_says_each_type_default_and_description() -> None:
    assert TOOL.definition() == {
        "name": "example",
        "description": "Does an example.\n\nWith a second paragraph.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "count": INTEGER,
                "ratio": {"type": "number", "default": 0.5},
                "flag": {"type": "boolean", "default": False},
                "names": {"type": "array", "items": {"type": "string"}, "default": []},
                "table": {
                    "anyOf": [{"type": "object", "additionalProperties": INTEGER}, {"type": "null"}],
                    "default": None,
                },
                "mode": {"enum": ["fast", "slow"], "type": "string", "default": "fast"},
                "where": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "a path", "default": None},
                "anything": {"default": None},
            },
            "required": ["text", "count"],
            "additionalProperties": False,
        },
    }
    json.dumps(TOOL.definition())


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ({"count": 1}, "text", "is missing"),
        ({"text": "a", "count": 1, "more": 2}, "more", "there is no such argument (there are: text, count, "),
        ({"text": 5, "count": 1}, "text", "must be a text, not a number (5)"),
        ({"text": "a", "count": "1"}, "count", "must be a whole number, not a text ('1')"),
        ({"text": "a", "count": True}, "count", "must be a whole number, not true or false (True)"),
        ({"text": "a", "count": 1.5}, "count", "must be a whole number, not a number (1.5)"),
        ({"text": "a", "count": None}, "count", "must be a whole number, not null"),
        ({"text": "a", "count": 1, "flag": 1}, "flag", "must be true or false, not a number (1)"),
        ({"text": "a", "count": 1, "names": "b"}, "names", "must be a list, not a text ('b')"),
        ({"text": "a", "count": 1, "names": ["b", 2]}, "names[1]", "must be a text, not a number (2)"),
        ({"text": "a", "count": 1, "table": {"k": "v"}}, "table.k", "must be a whole number, not a text ('v')"),
        ({"text": "a", "count": 1, "table": 3}, "table", "must be an object, not a number (3)"),
        ({"text": "a", "count": 1, "mode": "off"}, "mode", "must be 'fast' or 'slow', not a text ('off')"),
    ],
)
def test_arguments_that_do_not_fit_are_answered_with_field_and_reason(
    arguments: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidArguments) as raised:
        TOOL.bind(arguments)
    assert raised.value.field == field
    assert raised.value.reason.startswith(reason)
    assert str(raised.value).startswith(f"{field}: ")


async def test_a_call_converts_runs_and_answers() -> None:
    result = await TOOL.call({"text": "a", "count": 2.0, "ratio": 1})
    assert result.text == repr(("a", 2, 1.0, False, [], None, "fast", None, None))


async def test_a_plain_function_and_a_method_are_tools_too() -> None:
    class Box:
        def put(self, thing: str) -> dict[str, str]:
            return {"put": thing}

    assert (await Tool.of(Box().put).call({"thing": "ball"})).text == '{"put": "ball"}'
    assert Tool.of(Box().put, name="p_put").definition()["name"] == "p_put"


def test_without_a_docstring_the_name_describes_it() -> None:
    def add_two(a: int, b: int) -> int:
        return a + b

    assert Tool.of(add_two).description == "add two"


@pytest.mark.parametrize("annotation", [Tool, Callable[[int], int], dict[float, str]])
def test_an_annotation_that_no_json_value_fits_is_refused_at_once(annotation: Any) -> None:
    def tool(thing):
        return thing

    tool.__annotations__["thing"] = annotation
    with pytest.raises(UnsupportedParameter, match="the tool 'tool' cannot have the parameter 'thing'"):
        Tool.of(tool)


def test_star_parameters_are_refused() -> None:
    def tool(*things: str) -> None: ...

    with pytest.raises(UnsupportedParameter, match="named arguments"):
        Tool.of(tool)


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    def tool(thing: "Missing") -> None: ...  # noqa: F821, UP037

    with pytest.raises(UnsupportedParameter, match="Missing"):
        Tool.of(tool)


def test_a_union_prefers_the_exact_type() -> None:
    def tool(value: int | float | str) -> None: ...

    bind = Tool.of(tool).bind
    assert [repr(bind({"value": v})["value"]) for v in (2, 2.0, "2")] == ["2", "2.0", "'2'"]


def test_true_is_not_one_in_a_literal() -> None:
    def tool(value: Literal[1, 2]) -> None: ...

    with pytest.raises(InvalidArguments):
        Tool.of(tool).bind({"value": True})


@given(st.text(), st.integers(-(2**53) + 1, 2**53 - 1), st.booleans(), st.lists(st.text(), max_size=3))
def test_what_fits_comes_through_unchanged(text: str, count: int, flag: bool, names: list[str]) -> None:
    arguments = {"text": text, "count": count, "flag": flag, "names": names}
    assert TOOL.bind(json.loads(json.dumps(arguments))) == arguments


@pytest.mark.parametrize(
    ("result", "text"),
    [(None, "Done."), ("é", "é"), (3, "3"), ({"a": ["é"]}, '{"a": ["é"]}'), (len, "<built-in function len>")],
)
def test_a_result_is_told_as_text(result: object, text: str) -> None:
    assert result_of(result).text == text


LARGE = 2**53


@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_that_javascript_rounds_are_refused_and_never_rounded(sign: int) -> None:
    def tool(n: int = 0, some: list[int] = [], any: Any = None, table: dict[str, Any] = {}, share: float = 0) -> None:  # noqa: B006
        """Take them."""

    made = Tool.of(tool)
    for arguments, field in (
        ({"n": sign * LARGE}, "n"),
        ({"some": [1, sign * LARGE]}, "some[1]"),
        ({"any": sign * LARGE}, "any"),
        ({"any": [{"a": sign * 2**60}]}, "any[0].a"),
        ({"table": {"a": sign * LARGE}}, "table.a"),
        ({"n": sign * 1e21}, "n"),
    ):
        with pytest.raises(InvalidArguments) as raised:
            made.bind(arguments)
        assert raised.value.field == field
        assert "JSON in JavaScript rounds larger ones" in raised.value.reason
    safe = sign * (LARGE - 1)
    assert made.bind({"n": safe, "any": safe, "share": sign * 2**60}) == {
        "n": safe,
        "any": safe,
        "share": sign * 2.0**60,
    }


@pytest.mark.parametrize(
    ("annotation", "lax"),
    [
        (str, 1),
        (int, "1"),
        (int, True),
        (float, "1"),
        (bool, "yes"),
        (bool, 1),
        (list[int], ["1"]),
        (dict[str, bool], {"a": 0}),
    ],
)
def test_nothing_is_guessed(annotation: Any, lax: Any) -> None:
    def tool(value: Any) -> None: ...

    tool.__annotations__["value"] = annotation
    with pytest.raises(InvalidArguments, match="value"):
        Tool.of(tool).bind({"value": lax})


@pytest.mark.parametrize(
    ("annotation", "taken_by_pydantic"),
    [
        (Literal[1], True),
        (dt.datetime, "1700000000"),
        (dt.timedelta, "1:00:00"),
        (dict[int, str], {"01": "a"}),
        (Pair, {"a": 1}),
    ],
)
def test_what_the_schema_refuses_is_refused(annotation: Any, taken_by_pydantic: Any) -> None:
    def tool(value: Any) -> None: ...

    tool.__annotations__["value"] = annotation
    with pytest.raises(InvalidArguments, match="value"):
        Tool.of(tool).bind({"value": taken_by_pydantic})
