"""How a function's parameters are read: defaults, texts, names that are known here only."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from ramure.agents.tools.fields import BadDeclaration, InvalidArguments
from ramure.agents.tools.schema import BadTool, Tool, UnsupportedParameter
from ramure.agents.tools.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal


class Stranger:
    """No JSON value is one."""


def test_pydantic_s_field_describes_limits_and_gives_the_default() -> None:
    def tool(
        size: int = Field(3, ge=1, le=5, description="how large"),
        names: Annotated[list[str], Field(default_factory=list, max_length=2)] = ...,  # type: ignore[assignment]
        must: str = Field(..., min_length=1),
    ) -> Any:
        return size, names, must

    made = Tool.of(tool)
    assert made.parameters["properties"]["size"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 5,
        "description": "how large",
        "default": 3,
    }
    assert made.parameters["required"] == ["must"]
    assert tool(**made.bind({"must": "a"})) == (3, [], "a")
    with pytest.raises(InvalidArguments, match="size: must be less than or equal to 5, not a number"):
        made.bind({"must": "a", "size": 6})


def test_texts_of_parameters_come_from_the_annotation_or_the_docstring() -> None:
    def tool(a: Annotated[str, "from the annotation"], b: int, c: str) -> None:
        """Do it.

        Args:
            a: not this one
            b: from the docstring
        """

    made = Tool.of(tool)
    said = {name: each.get("description") for name, each in made.parameters["properties"].items()}
    assert said == {"a": "from the annotation", "b": "from the docstring", "c": None}
    assert made.description == "Do it."


def test_classes_of_the_function_that_declares_it_are_known() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    def tool(value: Local) -> Local:
        return value

    assert Tool.of(tool).bind({"value": {"x": 1}}) == {"value": Local(1)}


def test_what_it_returns_may_be_known_to_type_checkers_only_and_a_parameter_may_not() -> None:
    def returns(value: int) -> Iterable[Decimal]:
        raise NotImplementedError

    def takes(value: Decimal) -> None: ...

    assert Tool.of(returns).bind({"value": 1}) == {"value": 1}
    place = f"test_signatures.py:{takes.__code__.co_firstlineno}"
    with pytest.raises(UnsupportedParameter, match=rf"'value' \(at .*{place}\): its annotation 'Decimal' is not known"):
        Tool.of(takes)


def test_a_program_may_give_an_endpoint_what_no_json_stands_for_and_a_tool_cannot_have_it() -> None:
    def function(stranger: Stranger, at: list[Stranger] | None = None) -> None: ...

    stranger = Stranger()
    endpoint = Signature.of(function, of_python=True)
    assert endpoint.bind_python({"stranger": stranger, "at": [stranger]}) == {"stranger": stranger, "at": [stranger]}
    with pytest.raises(InvalidArguments, match="stranger: must be an instance of Stranger, not a text"):
        endpoint.bind_python({"stranger": "me"})
    with pytest.raises(UnsupportedParameter, match="cannot have the parameter 'stranger'"):
        Tool.of(function)


def test_partial_functions_objects_and_functions_without_a_signature() -> None:
    class Callable_:
        def __call__(self, n: int) -> int:
            return n

    def add(a: int, b: int) -> int:
        return a + b

    for function in (functools.partial(add, b=1), Callable_()):
        name = next(iter(Tool.of(function, "f").parameters["properties"]))
        with pytest.raises(InvalidArguments, match="must be a whole number"):
            Tool.of(function, "f").bind({name: "1"})
    with pytest.raises(BadTool, match="does not know its parameters"):
        Tool.of(dict, "f")


def test_numbers_of_values_that_javascript_rounds_are_refused() -> None:
    class Order(BaseModel):
        id: int = 1

    def tool(order: Order, kind: Annotated[int, Field(ge=-(2**60), le=2**60)] = 1) -> None: ...

    bounds = Tool.of(tool).parameters["properties"]["kind"]
    assert (bounds["minimum"], bounds["maximum"]) == (-(2**53) + 1, 2**53 - 1)


def test_a_bad_pattern_is_a_bad_declaration() -> None:
    def tool(name: Annotated[str, Field(pattern="(")]) -> None: ...

    with pytest.raises(BadDeclaration):
        Signature.of(tool)
