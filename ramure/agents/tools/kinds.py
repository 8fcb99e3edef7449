"""The type of one value: what a process returns, what ``wait(T)`` and ``agent.ask(text, result=T)`` want."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, Final, Never, NoReturn, TypeVar, get_args, get_origin

from ramure.agents.tools.fields import BadDeclaration, Field, Fields
from ramure.agents.tools.signatures import hints_of

__all__ = ["Kind", "kind_name", "returned_kind"]

_NAME: Final = "result"

_UNCHECKED: Final = (None, NoneType, Any, object, Never, NoReturn, inspect.Signature.empty)
"""A process without a result may have one all the same: that of ``done(value)``."""


class Kind:
    """A type. Pydantic is imported when a value is not plainly of it."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.fields: Fields = Fields({_NAME: Field(annotation)}, of_python=True)

    def check(self, value: Any) -> Any:
        """The value, if it is of the type; else what its JSON stands for: a dict becomes a dataclass. Raises
        :class:`InvalidArguments`, and :class:`BadDeclaration` where nothing can be checked by the type."""
        if self.annotation in _UNCHECKED or type(value) is self.annotation:
            return value
        self.fields.check()
        return self.fields.own_or_converted(_NAME, value)


def kind_name(annotation: Any) -> str:
    """As a program writes it: ``list[str]``; without what ``Annotated`` says of it."""
    if get_origin(annotation) is Annotated:
        return kind_name(get_args(annotation)[0])
    return annotation.__name__ if type(annotation) is type else str(annotation)


_kinds: Final[weakref.WeakKeyDictionary[Callable[..., Any], Kind | None]] = weakref.WeakKeyDictionary()


def returned_kind(function: Callable[..., Any]) -> Kind | None:
    """The type that a function says it returns; None where it says none, or one that is known to type checkers only."""
    function = getattr(function, "__func__", function)
    if function not in _kinds:
        _kinds[function] = _kind_of(function)
    return _kinds[function]


def _kind_of(function: Callable[..., Any]) -> Kind | None:
    if "return" not in getattr(inspect.unwrap(function), "__annotations__", {}):
        return None
    try:
        annotation = hints_of(function).get("return")
    except BadDeclaration:  # of a parameter: nobody calls a process by its annotations
        return None
    return None if annotation in _UNCHECKED or isinstance(annotation, TypeVar) else Kind(annotation)
