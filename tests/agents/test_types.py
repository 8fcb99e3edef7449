"""Tools and endpoints with parameters of every type: what the schema says is what is accepted, and arrives as it was."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ramure.agents.tools.fields import InvalidArguments
from ramure.agents.tools.schema import Tool
from ramure.agents.tools.shapes import DATE_TIME
from ramure.agents.tools.signatures import Signature
from tests.agents.grammar import Kind, jsons, kinds
from tests.scale import SOAK

EXAMPLES: Final = round(3000 * SOAK) if SOAK else 100

FORMATS: Final = jsonschema.FormatChecker(formats=["date"])


def _real_day(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """A time's pattern, and a day that the month has: no JSON Schema says that without a format."""
    yield from jsonschema.Draft202012Validator.VALIDATORS["pattern"](validator, pattern, value, schema)
    if pattern == DATE_TIME and isinstance(value, str) and not FORMATS.conforms(value[:10], "date"):
        yield jsonschema.ValidationError("the month has no such day")


Validator: Final = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _real_day})


def accepts(schema: dict[str, Any], value: Any) -> bool:
    return bool(Validator(schema, format_checker=FORMATS).is_valid(value))


def function_of(parameters: dict[str, Kind]) -> Any:
    """A function that takes them by name, and returns them."""
    names = ", ".join(parameters)
    scope: dict[str, Any] = {}
    exec(f"def tool(*, {names}):\n    return dict(locals())", scope)
    made = scope["tool"]
    made.__annotations__ = {name: kind.annotation for name, kind in parameters.items()}
    return made


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types to the leaf."""
    if type(one) is not type(other):
        return isinstance(one, dt.tzinfo)  # pydantic has one of its own
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one) or isinstance(one, BaseModel):
        return same(vars(one), vars(other))
    return bool(one == other)


NAMES: Final = ("copy", "json", "schema", "model_config", "validate", "x", "format", "type")
"""Of parameters: several are methods of pydantic's models."""

signatures = st.lists(kinds(), min_size=1, max_size=3).flatmap(
    lambda chosen: st.permutations(NAMES).map(lambda names: dict(zip(names, chosen, strict=False)))
)
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@thorough
@given(st.data())
def test_values_arrive_as_they_were_by_every_way(data: st.DataObject) -> None:
    parameters = data.draw(signatures)
    function = function_of(parameters)
    tool, endpoint = Tool.of(function), Signature.of(function, of_python=True)
    given = {name: data.draw(kind.values) for name, kind in parameters.items()}
    sent = json.loads(json.dumps(to_jsonable_python(given)))
    note(json.dumps(tool.parameters))
    note(repr(given))
    assert accepts(tool.parameters, sent)
    assert same(tool.bind(sent), given)
    assert same(endpoint.bind_python(given), given)
    assert same(endpoint.bind_python(sent), given)
    clear = {name: value for name, value in sent.items() if parameters[name].text_is_clear}
    texts = {
        name: value if isinstance(value, str) and value[:1] != '"' else json.dumps(value)
        for name, value in clear.items()
    }
    others = {name: value for name, value in given.items() if name not in texts}
    assert same(endpoint.bind_python(others, texts), given)


@thorough
@given(st.data())
def test_the_schema_accepts_exactly_what_the_handler_accepts(data: st.DataObject) -> None:
    parameters = data.draw(signatures)
    function = function_of(parameters)
    tool, endpoint = Tool.of(function), Signature.of(function, of_python=True)
    given = json.loads(
        json.dumps(to_jsonable_python({name: data.draw(kind.values) for name, kind in parameters.items()}))
    )
    sent = data.draw(jsons(given).filter(lambda value: isinstance(value, dict)))
    note(json.dumps(tool.parameters))
    note(repr(sent))
    bound, refused = outcome(tool.bind, sent)
    assert accepts(tool.parameters, sent) == (refused is None), refused
    if refused is None:
        assert same(endpoint.bind_python(sent), bound)
    elif not re.search(r"\d{16}", json.dumps(sent)):  # what JavaScript rounds, a program may give
        assert outcome(endpoint.bind_python, sent)[1] == refused


def outcome(bind: Callable[[dict[str, Any]], dict[str, Any]], sent: dict[str, Any]) -> tuple[Any, str | None]:
    """The values, or the error's text."""
    try:
        return bind(sent), None
    except InvalidArguments as refused:
        return None, str(refused)
