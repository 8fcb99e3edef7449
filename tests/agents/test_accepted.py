"""What is accepted can be sent: it is encoded once, where it is written."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any

import pytest

from ramure.agents.names import BadAgentName, check_name
from ramure.agents.tools.schema import BadTool, Tool, UnsupportedParameter
from ramure.agents.wire import TOKEN_PREFIX
from ramure.masking import get_logger

if TYPE_CHECKING:
    from decimal import Decimal


def sent(tool: Tool) -> Any:
    """The definition, as JavaScript would read it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"no JSON: {constant}")

    return json.loads(json.dumps(tool.definition(), ensure_ascii=False).encode(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("default", "why"),
    [
        (math.inf, "is inf, which JSON does not have"),
        (-math.inf, "is -inf, which JSON does not have"),
        (math.nan, "is nan, which JSON does not have"),
        (10**5000, "a whole number beyond 2"),
        (1 << 60, "a whole number beyond 2"),
        ("\udc80", "which no UTF-8 has"),
        ([math.inf], "is inf"),
        ({"a": math.nan}, "is nan"),
        ({"b": ["\ud800"]}, "which no UTF-8 has"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_default_that_json_does_not_have_is_refused_where_it_is_written(default: Any, why: str) -> None:
    def tool(limit: Any = default) -> None:
        """A tool."""

    place = rf"\(at .*test_accepted\.py:{tool.__code__.co_firstlineno}\)"
    with pytest.raises(UnsupportedParameter, match=rf"the parameter 'limit' {place}: its default .*{why}.*; use None"):
        Tool.of(tool)


def test_a_default_of_a_class_of_the_user_s_own_is_not_shown() -> None:
    absent = object()

    def tool(limit: Any = absent) -> bool:
        """A tool."""
        return limit is absent

    made = Tool.of(tool)
    definition = sent(made)["parameters"]
    assert definition["required"] == [] and "default" not in definition["properties"]["limit"]
    assert made.function(**made.bind({})) is True


def test_a_default_that_its_annotation_refuses_is_refused() -> None:
    def tool(limit: int = "many") -> None:  # type: ignore[assignment]
        """A tool."""

    with pytest.raises(UnsupportedParameter, match=r"its default does not fit its annotation: must be a whole number"):
        Tool.of(tool)


@pytest.mark.parametrize("default", [1.5, 7, -3, "é", None, True, [1, "a"], {"a": [None]}, (1, 2)])
def test_any_other_default_is_shown(default: Any) -> None:
    def tool(limit: Any = default) -> None:
        """A tool."""

    assert sent(Tool.of(tool))["parameters"]["properties"]["limit"]["default"] == (
        list(default) if isinstance(default, tuple) else default
    )


def test_a_docstring_that_no_utf_8_has_is_refused_with_the_place() -> None:
    def tool() -> None: ...

    tool.__doc__ = "Give a \udc80."
    with pytest.raises(BadTool, match=r"'tool' cannot be a tool: its docstring cannot be encoded"):
        Tool.of(tool)


def test_a_docstring_that_fills_the_model_s_context_is_refused() -> None:
    def tool() -> None: ...

    tool.__doc__ = "many words " * 200_000
    with pytest.raises(BadTool, match=r"its docstring has 2,200,00[0-9] characters as JSON, limit 1,048,576"):
        Tool.of(tool)


def test_what_a_tool_returns_may_be_known_to_type_checkers_only() -> None:
    def tool(amount: int) -> Decimal:
        """A tool."""
        raise NotImplementedError

    assert sent(Tool.of(tool))["parameters"]["properties"]["amount"]["type"] == "integer"


def test_a_parameter_must_be_known() -> None:
    def tool(amount: Decimal) -> Decimal:
        """A tool."""
        return amount

    with pytest.raises(UnsupportedParameter, match="Decimal"):
        Tool.of(tool)


@pytest.mark.parametrize("name", ["_runtime", "_RUNTIME", "_Runtime"])
def test_the_name_of_the_run_s_log_is_no_agent_s(name: str) -> None:
    with pytest.raises(BadAgentName, match="the run's own log"):
        check_name(name)


@pytest.mark.parametrize("name", ["_runtime2", "runtime", "_run", "sessions"])
def test_names_beside_it_are_free(name: str) -> None:
    assert check_name(name) == name


def test_a_launch_s_token_is_in_no_log_record() -> None:
    secret = "s3cret-Token_value"
    record = logging.LogRecord(
        "ramure.gateway", 10, "f", 1, "< %s: %s", ("Sec-WebSocket-Protocol", f"ramure.v1, {TOKEN_PREFIX}{secret}"), None
    )
    assert get_logger("ramure.gateway").filter(record)
    assert secret not in record.getMessage() and f"{TOKEN_PREFIX}[secret]" in record.getMessage()
