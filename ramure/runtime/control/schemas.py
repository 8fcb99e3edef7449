"""The methods of the control socket as JSON Schema: ``docs/control.json`` is made of it."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Final, get_args, get_origin, get_type_hints

from ramure.runtime.control.actors import ActorMethods
from ramure.runtime.control.methods import Dropped, Method, methods_of
from ramure.runtime.control.runs import RunMethods
from ramure.runtime.control.wire import PROTOCOL

__all__ = ["schemas"]

URL: Final = "https://ramure.dev/control.json"


def schemas() -> dict[str, Any]:
    """Each method: what it takes, and what it answers with, or what the items of its stream are. Imports pydantic."""
    from ramure.agents.tools.json_schema import definitions_of

    methods = methods_of(RunMethods.__new__(RunMethods), ActorMethods.__new__(ActorMethods))
    kinds: dict[str, Any] = {}
    for name, method in methods.items():
        hints = get_type_hints(method.function, include_extras=True)
        kinds[f"{name}()"] = _answer(hints.pop("return"))
        kinds.update({f"{name}({parameter})": kind for parameter, kind in hints.items()})
    parts, definitions = definitions_of(kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": URL,
        "title": "The methods of ramure's control socket",
        "protocol": PROTOCOL,
        "methods": {name: _described(method, parts) for name, method in methods.items()},
        "$defs": definitions,
    }


def _answer(annotation: Any) -> Any:
    """The type of the answer, or of a stream's items."""
    if annotation is type(None):
        return None
    if get_origin(annotation) is not get_origin(typing.AsyncIterator[Any]):
        return annotation
    (item,) = get_args(annotation)
    others = [each for each in get_args(item) if each is not Dropped]  # which is a frame of its own
    return others[0] if len(others) == 1 and Dropped in get_args(item) else item


def _described(method: Method, parts: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(method.function).parameters.values()
    return {
        "description": inspect.getdoc(method.function),
        "arguments": {
            "type": "object",
            "properties": {
                each.name: parts[f"{method.name}({each.name})"]
                | ({} if each.default is each.empty else {"default": each.default})
                for each in parameters
            },
            "required": [each.name for each in parameters if each.default is each.empty],
            "additionalProperties": False,
        },
        "items" if method.kind == "stream" else "answer": parts[f"{method.name}()"],
    }
