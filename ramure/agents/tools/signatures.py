"""A function's parameters as :class:`~ramure.agents.tools.fields.Fields`: what their annotations, defaults and docstring say."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ramure.agents.tools.docstrings import read_docstring
from ramure.agents.tools.fields import NONE, BadDeclaration, Field, Fields, InvalidArguments
from ramure.agents.tools.shapes import MAX_SAFE_INTEGER, shown

__all__ = ["Signature", "hints_of"]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes. ``description`` is its docstring without what that says of each parameter."""

    fields: Fields
    description: str | None
    hints: Mapping[str, Any]
    _defaults: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Those that pydantic's ``Field(...)`` has: the function itself would get the ``Field``."""

    @classmethod
    def of(
        cls, function: Callable[..., Any], *, of_python: bool = False, hints: Mapping[str, Any] | None = None
    ) -> Signature:
        """Read a function. ``of_python``: its callers are programs, which may give what JSON has not. Raises
        :class:`BadDeclaration` for a parameter that it cannot have, ValueError where Python knows no signature."""
        parameters = inspect.signature(function).parameters
        hints = hints_of(function) if hints is None else hints
        # An object without a docstring of its own would show its class's.
        text = inspect.getdoc(function) if inspect.isroutine(function) else None
        description, words = read_docstring(text, parameters) if text else (None, {})
        fields: dict[str, Field] = {}
        defaults: dict[str, Callable[[], Any]] = {}
        more = False
        for name, parameter in parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                optional = parameter.kind is not parameter.POSITIONAL_ONLY or parameter.default is not parameter.empty
                if of_python and optional:
                    more = more or parameter.kind is parameter.VAR_KEYWORD
                    continue
                stars = str(parameter).partition(name)[0]
                raise BadDeclaration(
                    stars + name, "it is called with named arguments only", "give each argument a name of its own"
                )
            if name == "self" and _is_of_a_class(function):
                raise BadDeclaration(
                    name, "it is a method of a class, and has no object", "give that of an object: Class(...).method"
                )
            made, default = _field(name, hints.get(name, Any), parameter.default, words.get(name))
            fields[name] = made
            if default is not None:
                defaults[name] = default
        known = Fields(fields, of_python=of_python, more=more)
        known.check()
        if not of_python:
            for name, each in fields.items():
                if not each.required:
                    _show_default(known, name, defaults[name]() if name in defaults else parameters[name].default)
        return cls(known, description, hints, defaults)

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The function's arguments for those of a model's tool call. Raises :class:`InvalidArguments`."""
        return self._filled(self.fields.from_javascript(arguments))

    def bind_python(self, arguments: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Those for a program's call. ``texts`` are a person's words. Raises :class:`InvalidArguments`."""
        read = {name: self.fields.from_text(name, text) for name, text in (texts or {}).items()}
        if not read:
            return self._filled(self.fields.from_python(arguments))
        checked = self.fields.from_python({**arguments, **read})
        return self._filled({**checked, **read})

    def _filled(self, bound: dict[str, Any]) -> dict[str, Any]:
        for name, default in self._defaults.items():
            if name not in bound:
                bound[name] = default()
        return bound


def _field(name: str, annotation: Any, default: Any, words: str | None) -> tuple[Field, Callable[[], Any] | None]:
    """The field of a parameter, and the default that a ``Field(...)`` gives it. Raises :class:`BadDeclaration`."""
    required = default is inspect.Parameter.empty
    kind: Any = annotation
    metadata: list[Any] = []
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
    infos = [each for each in (*metadata, default) if _is_info(each)]
    said = [each for each in metadata if isinstance(each, str)]
    rest = [each for each in metadata if not isinstance(each, str) and not _is_info(each)]
    given: Callable[[], Any] | None = None
    for info in infos:
        if info.alias is not None or info.validation_alias is not None:
            raise BadDeclaration(
                name,
                "its Field has an alias, and arguments have the names of parameters",
                "give the parameter that name",
            )
        rest += [*info.metadata, _without_default(info)]
        if not info.is_required():
            given = functools.partial(info.get_default, call_default_factory=True, validated_data={})
        said += [info.description] if info.description else []
    if infos:
        required = given is None and (required or default in infos)
    made = Annotated[kind, *rest] if rest else kind
    return Field(made, required, said[0] if said else words), given


def _is_of_a_class(function: Callable[..., Any]) -> bool:
    """True for a function that stands in the body of a class: its ``self`` has not been given."""
    owner = getattr(function, "__qualname__", "").rpartition(".")[0] if inspect.isfunction(function) else ""
    return owner != "" and not owner.endswith("<locals>")


def _is_info(value: object) -> bool:
    fields = sys.modules.get("pydantic.fields")  # else nobody can have made one
    return fields is not None and isinstance(value, fields.FieldInfo)


def _without_default(info: Any) -> Any:
    from pydantic import Field as Info

    return Info(
        title=info.title,
        examples=info.examples,
        discriminator=info.discriminator,
        json_schema_extra=info.json_schema_extra,
        deprecated=info.deprecated,
    )


def _show_default(fields: Fields, name: str, value: Any) -> None:
    """Let the schema show a default. Raises :class:`BadDeclaration` for one that JSON does not have, or that its own
    annotation refuses: the model would be told what is not so."""
    plain = _as_json(name, value)
    if plain is NONE:
        return  # an object of the user's own: it is the default all the same
    annotation = fields.fields[name].annotation
    if annotation is not Any and type(value) not in (annotation, *get_args(annotation)):
        try:
            fields.from_json(name, plain)
        except InvalidArguments as error:
            if value is None:
                return  # `text: str = None`: left out it is None, and None cannot be given
            raise BadDeclaration(
                name, f"its default does not fit its annotation: {error.reason}", "change one of them"
            ) from None
    fields.show_default(name, plain)


def _as_json(name: str, value: Any) -> Any:
    """A default as JSON; NONE for what has none, as an object of the user's own. Raises :class:`BadDeclaration`."""
    if value is None or type(value) in (str, bool):
        plain = value
    else:
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        try:
            plain = to_jsonable_python(value, inf_nan_mode="constants")
        except (PydanticSerializationError, ValueError, RecursionError):
            return NONE
    problem = _problem(plain)
    if problem:
        raise BadDeclaration(name, f"its default {problem}", "use None, and put the value in inside the function")
    return plain


def _problem(value: Any) -> str:
    """Why a default is no JSON that JavaScript reads as it is; "" if it is."""
    if isinstance(value, list | dict):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next(filter(None, map(_problem, parts)), "")
    if isinstance(value, str):
        lone = next((character for character in value if "\ud800" <= character <= "\udfff"), None)
        return "" if value.isascii() or lone is None else f"has {lone!r}, which no UTF-8 has"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which JSON does not have"
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        return f"has a whole number beyond 2**53 ({shown(value)}), which JSON in JavaScript rounds"
    return ""


# -- types --------------------------------------------------------------------------------------------------------------


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters, and ``return``. Names are looked up where the function is defined, and in
    the function that is calling. What it returns may be known to type checkers only, and is left out then. Raises
    :class:`BadDeclaration`."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = getattr(inner, "__call__", inner)  # noqa: B004 - its annotations are wanted
    try:
        return get_type_hints(inner, include_extras=True)
    except NameError:
        pass
    except TypeError:
        if not getattr(inner, "__annotations__", None):
            return {}  # a callable without annotations of its own: its parameters take anything
    names = getattr(inspect.unwrap(inner), "__globals__", {})
    found: dict[str, Any] = {}
    for name, hint in inner.__annotations__.items():
        alone = SimpleNamespace(__annotations__={name: hint})
        try:
            found.update(get_type_hints(alone, names, _locals(inner), include_extras=True))
        except NameError as error:
            if name != "return":
                raise BadDeclaration(
                    name,
                    f"its annotation {hint!r} is not known here ({error})",
                    "import what it names, and not for type checkers alone",
                ) from error
        except TypeError as error:
            if name != "return":
                raise BadDeclaration(name, f"its annotation {hint!r} is no type ({error})") from error
    return found


def _locals(function: Callable[..., Any]) -> dict[str, Any]:
    """The local names where a function is declared: its own closure's, and those of the function around it, if that runs;
    else those of the program's function that runs."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("ramure."):
        frame = frame.f_back
    around, above = getattr(function, "__qualname__", "").rpartition(".<locals>.")[0], frame
    while around and above.f_back is not None and above.f_code.co_qualname != around:
        above = above.f_back
    if above.f_code.co_qualname == around:
        frame = above
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    closure = {}
    for name, cell in zip(code.co_freevars if code is not None else (), cells, strict=False):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # it is not assigned yet
            continue
    return {**frame.f_locals, **closure}
