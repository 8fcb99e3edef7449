"""A tool's JSON Schema from a Python function's signature, and a call's arguments checked and converted by it. Pure.

Parameters may be annotated with ``str``, ``int``, ``float``, ``bool``, ``None``, ``list[T]``, ``dict[str, T]``,
``Literal[...]``, ``T | None``, unions of these, ``Any`` (or nothing), and ``Annotated[T, "what it means"]`` for a
description. A default makes a parameter optional. The function's docstring is the tool's description.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from ramure.errors import OperationalError, UsageError

__all__ = ["BadTool", "InvalidArguments", "Tool", "UnsupportedParameter", "check_tool", "result_text"]

Schema = dict[str, Any]

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""As model providers want them."""


class UnsupportedParameter(UsageError):
    """A function cannot be a tool, since the model could not be told what one of its parameters takes."""

    def __init__(self, tool: str, parameter: str, problem: str) -> None:
        self.tool = tool
        self.parameter = parameter
        super().__init__(
            f"the tool {tool!r} cannot have the parameter {parameter!r}: {problem}; "
            "use str, int, float, bool, list[...], dict[str, ...], Literal[...], or a union of these"
        )


class BadTool(UsageError):
    """A function, or its name, cannot be a tool."""

    def __init__(self, tool: object, problem: str) -> None:
        super().__init__(f"{tool!r} cannot be a tool: {problem}")


class InvalidArguments(OperationalError):
    """A call's arguments do not fit. ``field`` is where (``items[2].name``), ``reason`` is why; the text is for the model."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class _Misfit(Exception):
    """A value does not fit; ``path`` grows from the inside out."""

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a parameter takes: its schema, and the conversion of a JSON value to it (raises :class:`_Misfit`)."""

    schema: Schema
    convert: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function as a tool: what the model is told of it, and the way from a call's arguments to a result's text."""

    name: str
    description: str
    parameters: Schema
    function: Callable[..., Any]
    _kinds: dict[str, _Kind]

    @classmethod
    def of(cls, function: Callable[..., Any], name: str | None = None) -> Tool:
        """Reads a function's signature. Raises :class:`UnsupportedParameter`, at once rather than at the first call."""
        called = name or str(getattr(function, "__name__", "tool"))
        try:
            hints = _hints(function)
        except NameError as error:
            raise UnsupportedParameter(
                called, str(error.name), f"its annotation is not known here ({error})"
            ) from error
        except TypeError:
            hints = {}  # A callable object without annotations of its own: its parameters take anything.
        kinds: dict[str, _Kind] = {}
        required: list[str] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise UnsupportedParameter(called, str(parameter), "a tool is called with named arguments only")
            try:
                kind = _kind(hints.get(parameter.name, Any))
            except TypeError as error:
                raise UnsupportedParameter(called, parameter.name, str(error)) from None
            if parameter.default is parameter.empty:
                required.append(parameter.name)
            elif _is_json(parameter.default):
                kind = _Kind({**kind.schema, "default": parameter.default}, kind.convert)
            kinds[parameter.name] = kind
        schema: Schema = {
            "type": "object",
            "properties": {key: kind.schema for key, kind in kinds.items()},
            "required": required,
            "additionalProperties": False,
        }
        # An object without a docstring of its own would show its class's.
        description = inspect.getdoc(function) if inspect.isroutine(function) else None
        made = cls(called, description or called.replace("_", " "), schema, function, kinds)
        made._check_encoding()
        return made

    def _check_encoding(self) -> None:
        """What is accepted can be sent: encoded once, here, it fails where it is written and not while the agent works."""
        for what, part in (("its docstring", self.description), ("its parameters", self.parameters)):
            try:
                text = json.dumps(part, ensure_ascii=False, allow_nan=False)
                text.encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise BadTool(self.name, f"{what} cannot be encoded as JSON in UTF-8 ({error})") from error
            if len(text) > DEFINITION_LIMIT:
                raise BadTool(
                    self.name,
                    f"{what} has {len(text):,} characters as JSON, limit {DEFINITION_LIMIT:,}: a model reads it with every request",
                )

    def definition(self) -> dict[str, Any]:
        """The data of the log's ``tool`` entry."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    async def call(self, arguments: dict[str, Any]) -> str:
        """Checks the arguments, runs the function (async or not), and gives its result as the model's text.

        Raises :class:`InvalidArguments`, or what the function raised.
        """
        result = self.function(**self.bind(arguments))
        if inspect.isawaitable(result):
            result = await result
        return result_text(result)

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments for the function. Raises :class:`InvalidArguments` for the first that does not fit.

        A whole float is taken for an int and an int for a float; nothing else is converted, a text least of all.
        """
        for given in arguments:
            if given not in self._kinds:
                known = ", ".join(self._kinds) or "none"
                raise InvalidArguments(given, f"there is no such argument (there are: {known})")
        for name in self.parameters["required"]:
            if name not in arguments:
                raise InvalidArguments(name, "is missing")
        bound: dict[str, Any] = {}
        for name, value in arguments.items():
            try:
                bound[name] = self._kinds[name].convert(value)
            except _Misfit as misfit:
                raise InvalidArguments(name + misfit.path, misfit.reason) from None
        return bound


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of its parameters. What it returns is no part of a tool, and may be known to type checkers only."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:
        of_parameters = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
        names = getattr(inspect.unwrap(function), "__globals__", {})
        return get_type_hints(SimpleNamespace(__annotations__=of_parameters), names, include_extras=True)


def check_tool(function: object, name: str | None) -> str:
    """The name of the tool that ``function`` becomes. Raises :class:`BadTool`: a model would refuse it at each request."""
    if not callable(function):
        raise BadTool(function, "give a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTool(
            function, "it has a `yield`, and a tool returns its result; return a list, or send(...) meanwhile"
        )
    called = name if name is not None else getattr(function, "__name__", None)
    if called is None:
        raise BadTool(function, 'it has no name; write @agent.on("name")')
    if not _TOOL_NAME.fullmatch(called):
        raise BadTool(called, 'its name has to be 1 to 64 letters, digits, "_" and "-"; write @agent.on("name")')
    return str(called)


def result_text(result: object) -> str:
    """A handler's result for the model: a text as it is, nothing as ``Done.``, all else as JSON (or its repr)."""
    if result is None:
        return "Done."
    if isinstance(result, str):
        return result
    try:
        return json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(result)


MAX_SAFE_INTEGER: Final = (1 << 53) - 1
"""The largest that JavaScript, the extension's language, holds exactly."""

DEFINITION_LIMIT: Final = 1 << 20


def _is_json(value: object) -> bool:
    """Whether a default can be shown to the model. One that cannot (infinity, an object) is still the default."""
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return abs(value) <= MAX_SAFE_INTEGER
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _shown(value: object) -> str:
    names = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    if value is None:
        return "null"
    text = repr(value)
    return f"{names.get(type(value), type(value).__name__)} ({text if len(text) <= 60 else text[:57] + '...'})"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Misfit(f"must be a text, not {_shown(value)}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _Misfit(f"must be true or false, not {_shown(value)}")


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _Misfit(f"must be a whole number, not {_shown(value)}")


def _float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _Misfit(f"must be a number, not {_shown(value)}")


def _null(value: Any) -> None:
    if value is not None:
        raise _Misfit(f"must be null, not {_shown(value)}")


_PLAIN: Final[dict[Any, _Kind]] = {
    str: _Kind({"type": "string"}, _text),
    int: _Kind({"type": "integer"}, _int),
    float: _Kind({"type": "number"}, _float),
    bool: _Kind({"type": "boolean"}, _bool),
    None: _Kind({"type": "null"}, _null),
    type(None): _Kind({"type": "null"}, _null),
    Any: _Kind({}, lambda value: value),
    object: _Kind({}, lambda value: value),
}


def _kind(annotation: Any) -> _Kind:
    """The kind of an annotation; TypeError, with the problem as its text, for one that no JSON value fits."""
    try:
        if annotation in _PLAIN:
            return _PLAIN[annotation]
    except TypeError:
        pass  # Unhashable (Literal of a list, say): the rules below say what is wrong with it.
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = _kind(arguments[0])
        said = [extra for extra in arguments[1:] if isinstance(extra, str)]
        return _Kind({**inner.schema, "description": said[0]}, inner.convert) if said else inner
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union([_kind(argument) for argument in arguments])
    if annotation in (list, typing.List) or origin in (list, Sequence):  # noqa: UP006 - users may still write it
        return _list(_kind(arguments[0] if arguments else Any))
    if annotation in (dict, typing.Dict) or origin is dict:  # noqa: UP006
        if arguments and arguments[0] is not str:
            raise TypeError(f"the keys of {annotation} must be str, as JSON's are")
        return _dict(_kind(arguments[1] if arguments else Any))
    raise TypeError(f"no JSON value is a {getattr(annotation, '__name__', annotation)}")


def _literal(values: tuple[Any, ...]) -> _Kind:
    if not all(value is None or isinstance(value, str | int | bool) for value in values):
        raise TypeError(f"Literal{list(values)} has values that JSON does not have")
    listed = ", ".join(repr(value) for value in values)

    def convert(value: Any) -> Any:
        for allowed in values:
            # 1 == True in Python, and 1 is not true in JSON.
            if allowed == value and isinstance(allowed, bool) == isinstance(value, bool):
                return allowed
        raise _Misfit(f"must be one of {listed}, not {_shown(value)}")

    schema: Schema = {"enum": list(values)}
    if all(isinstance(value, str) for value in values):
        schema["type"] = "string"
    return _Kind(schema, convert)


def _union(kinds: list[_Kind]) -> _Kind:
    def convert(value: Any) -> Any:
        misfits: list[_Misfit] = []
        # An exact fit first: for int | float, 2.0 stays a float.
        for kind in kinds:
            try:
                converted = kind.convert(value)
            except _Misfit as misfit:
                misfits.append(misfit)
                continue
            if type(converted) is type(value):
                return converted
        for kind in kinds:
            try:
                return kind.convert(value)
            except _Misfit:
                continue
        # The alternative that was understood best says what is wrong inside it.
        deepest = max(misfits, key=lambda misfit: len(misfit.path))
        if deepest.path:
            raise deepest
        raise _Misfit(
            ", or ".join(dict.fromkeys(misfit.reason.split(", not ")[0] for misfit in misfits))
            + f", not {_shown(value)}"
        )

    return _Kind({"anyOf": [kind.schema for kind in kinds]}, convert)


def _list(item: _Kind) -> _Kind:
    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _Misfit(f"must be a list, not {_shown(value)}")
        converted = []
        for index, element in enumerate(value):
            try:
                converted.append(item.convert(element))
            except _Misfit as misfit:
                raise _Misfit(misfit.reason, f"[{index}]{misfit.path}") from None
        return converted

    return _Kind({"type": "array", "items": item.schema}, convert)


def _dict(item: _Kind) -> _Kind:
    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _Misfit(f"must be an object, not {_shown(value)}")
        converted = {}
        for key, element in value.items():
            try:
                converted[key] = item.convert(element)
            except _Misfit as misfit:
                raise _Misfit(misfit.reason, f".{key}{misfit.path}") from None
        return converted

    return _Kind({"type": "object", "additionalProperties": item.schema}, convert)
