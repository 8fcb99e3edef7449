"""An endpoint: a function that a process exposes, with what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ramure.agents.tools.fields import BadDeclaration
from ramure.agents.tools.schema import UnsupportedParameter
from ramure.agents.tools.signatures import Signature
from ramure.places import place_of

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``signature`` is None for a builtin of which Python does not know any: its arguments are not checked."""

    function: Callable[..., Any]
    signature: Signature | None

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Endpoint:
        """Read a function. Raises :class:`UnsupportedParameter` for a parameter that no value can be given for."""
        try:
            inspect.signature(function)
        except ValueError:
            return cls(function, None)
        try:
            return cls(function, Signature.of(function, of_python=True))
        except BadDeclaration as bad:
            raise UnsupportedParameter(name, bad, place_of(function), "endpoint") from bad

    def bind(self, arguments: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
        """The function's arguments. ``texts`` are a person's words. Raises InvalidArguments."""
        if self.signature is None:
            return {**texts, **arguments}
        return self.signature.bind_python(arguments, texts)
