"""A function as a tool: its definition for the model, and the way from a call's arguments to a result.

Parameters may have any type that JSON can stand for (docs/tools.md lists them): pydantic makes the schema and the values.
A default makes a parameter optional. The function's docstring is the tool's description.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ramure.agents.tools.fields import BadDeclaration, InvalidArguments
from ramure.agents.tools.results import Result, result_of
from ramure.agents.tools.shapes import rounded_in
from ramure.agents.tools.signatures import Signature
from ramure.errors import UsageError
from ramure.places import place_of

__all__ = ["BadTool", "InvalidArguments", "Tool", "UnsupportedParameter", "check_tool"]

Schema = dict[str, Any]

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""As model providers want them."""

DEFINITION_LIMIT: Final = 1 << 20


class UnsupportedParameter(UsageError):
    """A function cannot be a tool, or an endpoint: its callers could not be told what one of its parameters takes."""

    def __init__(self, tool: str, bad: BadDeclaration, place: str, what: str = "tool") -> None:
        self.tool = tool
        self.parameter: str = bad.name
        at = f" (at {place})" if place else ""
        super().__init__(f"the {what} {tool!r} cannot have the parameter {bad.name!r}{at}: {bad.problem}; {bad.remedy}")


class BadTool(UsageError):
    """A function, or its name, cannot be a tool."""

    def __init__(self, tool: object, problem: str) -> None:
        super().__init__(f"{tool!r} cannot be a tool: {problem}")


@dataclass(frozen=True, slots=True)
class Tool:
    """``function`` may be another one than that whose signature it has. ``converts``: it gets what ``bind`` makes of the
    arguments; else they are checked, and it gets them as they came."""

    name: str
    description: str
    parameters: Schema
    function: Callable[..., Any]
    _signature: Signature
    converts: bool = True

    @classmethod
    def of(cls, function: Callable[..., Any], name: str | None = None, hints: Mapping[str, Any] | None = None) -> Tool:
        """Read a function's signature. ``hints``: its types, where they are known. Raises :class:`UnsupportedParameter`,
        at once rather than at the first call."""
        called = name or str(getattr(function, "__name__", "tool"))
        try:
            inspect.signature(function)
        except ValueError as error:
            raise BadTool(called, f"Python does not know its parameters ({error}); wrap it in a function") from error
        try:
            signature = Signature.of(function, hints=hints)
            schema = signature.fields.schema()
            _check_numbers(schema)
        except BadDeclaration as bad:
            raise UnsupportedParameter(called, bad, place_of(function)) from bad
        made = cls(called, signature.description or called.replace("_", " "), schema, function, signature)
        made._check_encoding()
        return made

    def _check_encoding(self) -> None:
        """What is accepted can be sent: encoded once, here, it fails where it is written and not while the agent works."""
        at = place_of(self.function)
        for what, part in (("its docstring", self.description), ("its parameters", self.parameters)):
            try:
                text = json.dumps(part, ensure_ascii=False, allow_nan=False)
                text.encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise BadTool(self.name, f"{what} cannot be encoded as JSON in UTF-8 ({error}), at {at}") from error
            if len(text) > DEFINITION_LIMIT:
                raise BadTool(
                    self.name,
                    f"{what} has {len(text):,} characters as JSON, limit {DEFINITION_LIMIT:,}, at {at}: a model reads it "
                    "with every request; shorten it",
                )

    def definition(self) -> dict[str, Any]:
        """The data of the log's ``tool`` entry."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    async def call(self, arguments: Mapping[str, Any]) -> Result:
        """Check the arguments, run the function (async or not), and return its result as the model gets it.

        Raises :class:`InvalidArguments`, or what the function raised.
        """
        bound = self.bind(arguments)
        result = self.function(**(bound if self.converts else arguments))
        if inspect.isawaitable(result):
            result = await result
        return result_of(result)

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments for the function. Raises :class:`InvalidArguments` for the first that does not fit."""
        return self._signature.bind(arguments)


def _check_numbers(schema: Schema) -> None:
    """Raise :class:`BadDeclaration` for a number of a Literal or an Enum that JavaScript would round."""
    for name, each in (*schema["properties"].items(), *schema.get("$defs", {}).items()):
        found = rounded_in(each)
        if found is not None:
            raise BadDeclaration(
                name, f"JSON in JavaScript rounds {found}, which its values have", "use texts for them"
            )


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
