"""What ramure asks of pydantic: an adapter for named types, and a JSON Schema that says what it accepts.

The only module that needs pydantic to be imported; it is imported where it is used.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import operator
import sys
import textwrap
import typing
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import typing_extensions
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ramure.agents.tools.shapes import DATE, DATE_TIME, DECIMAL, DURATION, INTEGER_KEY, MAX_SAFE_INTEGER, TIME, UUID

__all__ = ["adapter_of", "definitions_of", "schema_of"]

Schema = dict[str, Any]


def adapter_of(kinds: Mapping[str, tuple[Any, bool]], of_python: bool) -> TypeAdapter[Any]:
    """An adapter for an object with these fields: the type of each, and whether it is required.

    A TypedDict takes fields of any name; a model would trip over ``copy``, ``json`` and ``model_config``. Raises what
    pydantic raises, also for a type that names one that cannot be found.
    """
    fields = {}
    for name, (annotation, required) in kinds.items():
        kind = _taken(annotation)
        wrapper: Any = typing_extensions.Required if required else typing_extensions.NotRequired
        fields[name] = wrapper[kind]
    made = _typed_dict("Arguments", fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=of_python)
    adapter: TypeAdapter[Any] = TypeAdapter(made)
    if (
        not adapter.pydantic_complete
    ):  # a dataclass within names a type that is not there: say so now, not at the first value
        adapter.rebuild(force=True, raise_errors=True)
    return adapter


_typed_dict: Final[Any] = typing_extensions.TypedDict  # called with what no type checker can know


def schema_of(adapter: TypeAdapter[Any]) -> Schema:
    """The JSON Schema of what an adapter of :func:`adapter_of` accepts. Raises what pydantic raises."""
    schema = adapter.json_schema(schema_generator=_Generator)
    schema.pop("title", None)
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {
        "type": "object",
        "properties": schema.get("properties", {}),
        "required": schema.get("required", []),
        "additionalProperties": False,
        **definitions,
    }


class _Generator(GenerateJsonSchema):
    """JSON Schema without titles that only repeat a field's name, which says what pydantic leaves out."""

    ignored_warning_kinds: Final = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # type: ignore[misc]

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """With the bounds of what JavaScript holds exactly: pi refuses what it has rounded."""
        found = super().int_schema(schema)
        _bounded(found)
        return found

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        if any(isinstance(member, Enum) for member in schema["expected"]):  # of a class: pydantic would take no JSON
            raise ValueError(
                "no JSON stands for a member of an Enum in a Literal; write the Enum, or a Literal of texts"
            )
        return super().literal_schema(schema)

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return _without_unique(super().set_schema(schema))

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return _without_unique(super().frozenset_schema(schema))

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A larger number has to be a text, for JavaScript rounds it."""
        found = super().decimal_schema(schema)
        for choice in found.get("anyOf", ()):
            if choice.get("type") == "string":
                choice["pattern"] = DECIMAL
            else:
                _bounded(choice)
        return found

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return {**super().date_schema(schema), "pattern": DATE}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        """Without its format: pi would ask for a time zone."""
        return {"type": "string", "pattern": DATE_TIME, "examples": ["2024-05-31T10:00:00Z"]}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": TIME, "examples": ["10:00:00"]}

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        """Without its format: pi would refuse fractions of seconds, and what lies in the past."""
        return {"type": "string", "pattern": DURATION, "examples": ["PT1H30M", "P2D"]}

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:
        return {**super().uuid_schema(schema), "pattern": UUID}

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        found = super().bytes_schema(schema)
        return {key: value for key, value in found.items() if value != "binary"}  # it is a text like any other

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        raise ValueError("no JSON value is a complex")

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        for pattern, values in found.pop("patternProperties", {}).items():  # which lets any other key pass
            found["additionalProperties"] = values
            found["propertyNames"] = {**found.get("propertyNames", {}), "pattern": pattern}
        keys = schema.get("keys_schema", {}).get("type", "any")
        if keys == "int":
            found["propertyNames"] = {"pattern": INTEGER_KEY}
        elif keys in ("float", "bool", "none", "tuple", "list", "dict", "union", "nullable", "decimal", "bytes"):
            raise ValueError(f"JSON's keys are texts, and none is a {keys}; use str")
        return found


def _bounded(found: JsonSchemaValue) -> None:
    """Give numbers the bounds of what JavaScript holds exactly, where they have none that are tighter."""
    for bound, exclusive, limit, beyond in (
        ("minimum", "exclusiveMinimum", -MAX_SAFE_INTEGER, operator.lt),
        ("maximum", "exclusiveMaximum", MAX_SAFE_INTEGER, operator.gt),
    ):
        given = found.get(bound, found.get(exclusive))
        if given is None or beyond(given, limit):
            found.pop(exclusive, None)
            found[bound] = limit


def _without_unique(found: JsonSchemaValue) -> JsonSchemaValue:
    """A model may name something twice: a set has it once. Where the number matters, it may not."""
    if "minItems" not in found and "maxItems" not in found:
        found.pop("uniqueItems", None)
    return found


# -- types that pydantic does not take as they are ----------------------------------------------------------------------


def _taken(annotation: Any) -> Any:
    """The annotation, with what pydantic would read too lazily or not at all replaced."""
    if sys.version_info < (3, 12):
        _adopt(annotation, set())
    return _replaced(annotation)


_NO_VALUES: Final = {
    typing.Self: "Self is known inside the class only; write the class's name",
    typing.Never: "no value is of the type Never",
    typing.NoReturn: "no value is of the type NoReturn",
    typing.Final: "Final is for variables, not for parameters",
    typing.ClassVar: "ClassVar is for the variables of classes, not for parameters",
    typing.Unpack: "Unpack is for *args and **kwargs",
}


def _replaced(annotation: Any) -> Any:
    """The annotation, with what is in it for which pydantic has nothing, or another meaning, replaced. Raises TypeError for
    what is no type of a value."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    for each in (annotation, origin):
        if isinstance(each, Hashable) and each in _NO_VALUES:
            raise TypeError(_NO_VALUES[each])
    if isinstance(annotation, int | float | bytes | list | dict | tuple | set):
        raise TypeError(f"{annotation!r} is no type")
    if annotation is typing.LiteralString:
        return str
    if origin is typing.Literal:
        return _Members.in_place_of(annotation)
    if not arguments or origin is None:
        return annotation
    if origin is typing.Annotated:
        kind = _replaced(arguments[0])
        return annotation if kind is arguments[0] else typing.Annotated[kind, *arguments[1:]]
    parts = tuple(part if isinstance(part, list) else _replaced(part) for part in arguments)
    if origin in (Iterable, Collection):  # pydantic would check the items of one when they are used
        return list[parts[0]]  # type: ignore[valid-type]
    if all(new is old for new, old in zip(parts, arguments, strict=True)):
        return annotation
    return typing.Union[parts] if origin in (typing.Union, UnionType) else origin[parts]  # noqa: UP007 - of a tuple


class _Members:
    """For ``Literal[Color.RED]``: JSON has the member's value, and pydantic would take none."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        self._members = members
        self._by_value = {_value(member): member for member in members}

    @classmethod
    def in_place_of(cls, annotation: Any) -> Any:
        members = get_args(annotation)
        if not any(isinstance(member, Enum) for member in members):
            return annotation
        return typing.Annotated[Any, cls(members)]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        values = core_schema.literal_schema(list(self._by_value))
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(self._by_value.__getitem__, values),
            python_schema=core_schema.literal_schema(list(self._members)),
        )


def _value(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


def _adopt(annotation: Any, seen: set[int]) -> None:
    """Make pydantic take ``typing.TypedDict`` below Python 3.12, wherever in ``annotation`` it is."""
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    for part in get_args(annotation):
        _adopt(part, seen)
    if not isinstance(annotation, type):
        return
    if typing.is_typeddict(annotation):
        hints = _hints(annotation)
        if "__get_pydantic_core_schema__" not in vars(annotation) and type(annotation).__module__ == "typing":
            _give_schema(annotation, hints)
    elif is_dataclass(annotation) or (issubclass(annotation, tuple) and hasattr(annotation, "_fields")):
        hints = _hints(annotation)
    else:
        return
    for part in hints.values():
        _adopt(part, seen)


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        return {}  # pydantic says what is wrong with them


def _give_schema(kind: Any, hints: dict[str, Any]) -> None:
    """Let pydantic read ``kind`` as a TypedDict of ``typing_extensions``, which has the same fields."""
    fields = {}
    for name, hint in hints.items():
        says = get_origin(hint)  # where annotations are texts, `__required_keys__` has missed it
        required = says is typing.Required or (says is not typing.NotRequired and name in kind.__required_keys__)
        bare = get_args(hint)[0] if says in (typing.Required, typing.NotRequired) else hint
        fields[name] = (typing_extensions.Required if required else typing_extensions.NotRequired)[bare]
    twin = _typed_dict(kind.__name__, fields)
    twin.__module__, twin.__qualname__, twin.__doc__ = kind.__module__, kind.__qualname__, kind.__doc__
    if hasattr(kind, "__pydantic_config__"):
        twin.__pydantic_config__ = kind.__pydantic_config__
    kind.__get_pydantic_core_schema__ = classmethod(lambda cls, source, handler: handler.generate_schema(twin))


# -- what is written, for those who read it ------------------------------------------------------------------------------


def definitions_of(kinds: Mapping[str, Any]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The JSON Schema of each of these types, as it is written, and the definitions that they refer to, by the names of
    the classes. The texts below the fields of a class describe them."""
    adapters = [(name, "serialization", TypeAdapter(_taken(kind))) for name, kind in kinds.items()]
    found, all_of_them = TypeAdapter.json_schemas(adapters, schema_generator=_Written)  # type: ignore[arg-type]
    definitions: dict[str, Schema] = all_of_them.get("$defs", {})
    for name, kind in _classes(kinds.values(), {}).items():
        made = definitions[name]
        made.pop("title", None)
        for field, text in _texts_below(kind).items():
            made["properties"][field]["description"] = text
    return {name: found[name, "serialization"] for name in kinds}, definitions


class _Written(GenerateJsonSchema):
    """JSON Schema of what is written, without titles that only repeat names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """In the order of the declarations."""
        return value


def _classes(annotations: Iterable[Any], found: dict[str, type]) -> dict[str, type]:
    """The classes with fields in these types, by name."""
    for annotation in annotations:
        parts = list(get_args(annotation))
        has_fields = isinstance(annotation, type) and (typing.is_typeddict(annotation) or is_dataclass(annotation))
        if has_fields and found.get(annotation.__name__) is not annotation:
            assert annotation.__name__ not in found, f"two classes are called {annotation.__name__}"
            found[annotation.__name__] = annotation
            parts += get_type_hints(annotation).values()
        _classes(parts, found)
    return found


def _texts_below(kind: type) -> dict[str, str]:
    """The texts below the fields of a class, and of those that it has its fields from."""
    found: dict[str, str] = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for base in body.bases:  # below Python 3.12, a TypedDict itself does not know them
        of_ours = getattr(sys.modules[kind.__module__], base.id, None) if isinstance(base, ast.Name) else None
        if of_ours is not typing.TypedDict and of_ours is not None:
            found.update(_texts_below(of_ours))
    for field, after in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = inspect.cleandoc(str(after.value.value))
    return found
