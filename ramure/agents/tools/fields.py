"""Named values with types: the parameters of a function, or one result. Pydantic checks and converts them.

There is one set of rules for what comes as JSON, from a model, and as Python's values, from a program: pydantic's strict
ones for JSON (a text becomes a date, but no number, and "yes" is no True), and values that are already what they should
be. A person's words on the command line are read more widely (:meth:`Fields.from_text`).

Pydantic is imported when the first :class:`Fields` is used.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

from ramure.agents.tools.misfits import first_misfit, path_text
from ramure.agents.tools.shapes import from_javascript, holds_rounded, is_json, misfit, says_more, whole
from ramure.errors import OperationalError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["NONE", "BadDeclaration", "Field", "Fields", "InvalidArguments"]

Schema = dict[str, Any]

NONE: Final = object()
"""No default."""


class InvalidArguments(OperationalError):
    """A call's arguments do not fit. ``field`` is where (``items[2].name``), ``reason`` is why; the text is for the model."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


TYPES: Final = (
    "use str, int, float, bool, list, dict[str, ...], Literal, an Enum, a date, a dataclass, a TypedDict, a pydantic model, "
    "or a union of such types"
)
"""What to do about a type that no JSON stands for."""


class BadDeclaration(Exception):
    """No value can be of the type of the field ``name``, or none as JSON; ``problem`` says why."""

    def __init__(self, name: str, problem: str, remedy: str = TYPES) -> None:
        self.name = name
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{name}: {problem}")


@dataclass(frozen=True, slots=True)
class Field:
    """One named value. ``annotation`` is its type, with descriptions and pydantic's ``Field(...)`` in ``Annotated``."""

    annotation: Any
    required: bool = True
    description: str | None = None


class Fields:
    """``of_python``: a class of the user's own, which no JSON value is one of, is a type too. ``more``: values of any
    other name are taken as well, as they are. ``what``: what one is called in errors."""

    def __init__(
        self, fields: Mapping[str, Field], *, of_python: bool = False, more: bool = False, what: str = "argument"
    ) -> None:
        self.fields = fields
        self._of_python = of_python
        self._more = more
        self._what = what
        # What every value fits: these are passed by pydantic, as they are.
        self._any = {name for name, each in fields.items() if each.annotation in (Any, object)}
        self._texts = {name for name, each in fields.items() if each.annotation is str}
        self._plain = {name: each.annotation for name, each in fields.items() if each.annotation in (str, int, bool)}
        self._shown: dict[str, Any] = {}
        self._adapters: dict[str | None, TypeAdapter[Any]] = {}
        self._schema: Schema | None = None
        self._shapes: dict[str | None, Schema | None] = {}

    # -- declaring ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise :class:`BadDeclaration` for the first field whose type cannot be checked."""
        if len(self._any | self._texts) == len(self.fields):
            return
        try:
            self._adapter(None)
        except Exception:
            for name in self.fields:
                try:
                    self._adapter(name)
                except Exception as error:
                    raise _bad(name, error) from error
            raise

    def schema(self) -> Schema:
        """The JSON Schema of the values, as one object. Raises :class:`BadDeclaration`."""
        if self._schema is None:
            self.check()
            try:
                self._schema = self._json_schema(None)
            except Exception:
                for name in self.fields:
                    try:
                        self._json_schema(name)
                    except Exception as error:
                        raise _bad(name, error) from error
                raise
        return self._schema

    def show_default(self, name: str, default: Any) -> None:
        """Let the schema show the default of a field."""
        self._shown[name] = default

    def _json_schema(self, only: str | None) -> Schema:
        from ramure.agents.tools.json_schema import schema_of

        schema = schema_of(self._adapter(only))
        for name in self._chosen(only).keys() & self._shown.keys():
            schema["properties"][name]["default"] = self._shown[name]
        return schema

    def _adapter(self, only: str | None) -> TypeAdapter[Any]:
        """Checks one field, or all of them."""
        if only not in self._adapters:
            from ramure.agents.tools.json_schema import adapter_of

            kinds = {
                name: (_described(field), field.required or only is not None)
                for name, field in self._chosen(only).items()
            }
            self._adapters[only] = adapter_of(kinds, self._of_python)
        return self._adapters[only]

    def _chosen(self, only: str | None) -> Mapping[str, Field]:
        return self.fields if only is None else {only: self.fields[only]}

    # -- values -----------------------------------------------------------------------------------------------------

    def from_javascript(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a tool call, which pi's JSON has been through: it rounds integers beyond 2**53, so these are
        refused. Raises :class:`InvalidArguments` for the first that does not fit."""
        self._check_names(values)
        return self._from_json(None, from_javascript(values)) if self.fields else {}

    def from_python(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a program has given. Raises :class:`InvalidArguments`."""
        self._check_names(values)
        if not self.fields:
            return dict(values)
        rest = {name: value for name, value in values.items() if name not in self.fields}
        given = {name: value for name, value in values.items() if name in self.fields}
        if all(name in self._any or is_json(value) for name, value in given.items()):
            return {**self._from_json(None, given), **rest}
        return {**{name: self._one(name, value) for name, value in given.items()}, **rest}

    def own_or_converted(self, name: str, value: Any) -> Any:
        """The value itself, if it is what it should be; else what its JSON stands for. Raises :class:`InvalidArguments`, or
        :class:`BadDeclaration` where the type cannot be checked."""
        from pydantic import ValidationError

        try:
            adapter = self._adapter(name)
        except Exception as error:
            raise _bad(name, error) from error
        try:
            found = adapter.validate_python({name: value}, strict=True)[name]
        except ValidationError:
            return self._one(name, value)
        # A dict is taken for a model, anywhere within.
        same = found is value or (type(found) is type(value) and found == value)
        return value if same else self._one(name, value)

    def _one(self, name: str, value: Any) -> Any:
        """A value of Python's: one that is what it should be, else one whose JSON fits."""
        if name in self._any:
            return value
        if is_json(value):
            return self._from_json(name, {name: value})[name]
        from pydantic import ValidationError
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        try:
            return self._adapter(name).validate_python({name: value}, strict=True)[name]
        except ValidationError as error:
            try:
                plain = to_jsonable_python(value)
            except (PydanticSerializationError, ValueError, RecursionError):
                raise _refused(error, {name: value}) from None
            if not is_json(plain):
                raise _refused(error, {name: value}) from None
            return self._from_json(name, {name: plain})[name]

    def from_json(self, name: str, value: Any) -> Any:
        """One JSON value. Raises :class:`InvalidArguments`."""
        return self._from_json(name, {name: value})[name]

    def from_text(self, name: str, text: str) -> Any:
        """A value that a person has written: ``no`` is False, ``2024`` is the text where a text is wanted, JSON is
        JSON. Raises :class:`InvalidArguments`."""
        if name not in self.fields:
            self._check_names({name: text})
        as_json = _read_json(text)
        if isinstance(as_json, str):  # in quotes
            text, as_json = as_json, NONE
        if name in self._texts:
            return text
        if name in self._any or name not in self.fields:
            return text if as_json is NONE else as_json
        refused: InvalidArguments | None = None
        try:
            found = self._from_json(name, {name: text})[name]
            if as_json is NONE or not isinstance(found, str):
                return found
        except InvalidArguments as error:
            found, refused = NONE, error
        if as_json is not NONE:
            try:
                return self._from_json(name, {name: as_json})[name]
            except InvalidArguments as error:
                refused = error
        if found is not NONE:
            return found
        assert refused is not None
        return self._from_words(name, text, as_json, refused)

    def _from_words(self, name: str, text: str, as_json: Any, refused: InvalidArguments) -> Any:
        """What pydantic makes of a text that is no JSON for the value, without what nobody means. Raises ``refused``."""
        from pydantic import ValidationError

        try:
            found = self._adapter(name).validate_strings({name: text})[name]
        except ValidationError:
            raise _for_a_person(refused, text) from None
        if isinstance(as_json, int | float) and isinstance(found, dt.date | dt.time | dt.timedelta):
            raise refused  # pydantic takes 2024 for a time: 33 minutes and 44 seconds after 1970
        if isinstance(found, float) and not math.isfinite(found):
            raise refused  # "nan", "inf" and 1e999 are no numbers that a tool would take
        return found

    def _check_names(self, values: Mapping[str, Any]) -> None:
        for name in values:
            if name not in self.fields and not self._more:
                known = ", ".join(self.fields) or "none"
                raise InvalidArguments(name, f"there is no such {self._what} (there are: {known})")
        for name, field in self.fields.items():
            if field.required and name not in values:
                raise InvalidArguments(name, "is missing")

    def _from_json(self, only: str | None, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that JSON values stand for. What every value fits is not looked at."""
        own = {
            name: value for name, value in values.items() if name in self._any or type(value) is self._plain.get(name)
        }
        if len(own) == len(values):
            for name, value in own.items():
                if name in self._any and holds_rounded(value):
                    self._check_shape(only, {name: value})
            return own
        seen = {**values, **dict.fromkeys(own.keys() & self._any), **dict.fromkeys(own.keys() & self._texts, "")}
        try:
            found = self._validated(only, seen)
        except InvalidArguments:
            simpler = whole(seen)
            if simpler == seen and simpler is seen:
                raise
            seen = simpler
            found = self._validated(only, seen)
        self._check_shape(only, {**seen, **own})
        return {**found, **own}

    def _validated(self, only: str | None, values: dict[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        try:
            text = json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            name = next(name for name, value in values.items() if _no_utf8(value))
            reason = f"has {error.object[error.start]!r}, half of a surrogate pair, which is no character: leave it out"
            raise InvalidArguments(name, reason) from None
        adapter = self._adapter(only)
        try:
            return dict(adapter.validate_json(text, strict=True))
        except ValidationError as error:
            refused = error
        if any(each["type"] == "needs_python_object" for each in refused.errors(include_url=False)):
            if len(values) > 1:  # the others are JSON
                return {name: self._validated(name, {name: value})[name] for name, value in values.items()}
            try:  # a class of the user's own: its error names it
                return dict(adapter.validate_python(values, strict=True))
            except ValidationError as error:
                refused = error
        raise _refused(refused, values)

    def _check_shape(self, only: str | None, values: dict[str, Any]) -> None:
        if only not in self._shapes:
            self._shapes[only] = self._shape(only)
        shape = self._shapes[only]
        found = None if shape is None else misfit(shape, values)
        if found is not None:
            raise InvalidArguments(path_text(found[0]), found[1])

    def _shape(self, only: str | None) -> Schema | None:
        """The schema, where it can refuse what pydantic takes; else None."""
        try:
            schema = self._json_schema(only)
            return schema if says_more(schema) else None
        except Exception:  # a class of the user's own: no JSON value is one, so there is nothing to refuse
            return None


def _described(field: Field) -> Any:
    if field.description is None or not hasattr(field.annotation, "__module__"):  # which is no type, and is refused so
        return field.annotation
    from pydantic import Field as Info

    return Annotated[field.annotation, Info(description=field.description)]


def _refused(error: Any, values: Mapping[str, Any]) -> InvalidArguments:
    path, reason = first_misfit(error.errors(include_url=False), values)
    return InvalidArguments(path_text(path), reason)


def _bad(name: str, error: BaseException) -> BadDeclaration:
    """Why pydantic cannot check a type, in our words."""
    said = (str(error).strip() or type(error).__name__).split("\n", 1)[0].rstrip(".")
    if unknown := re.fullmatch(r"name '(\w+)' is not defined", said):
        remedy = "import it, and not for type checkers alone; where a type contains itself, make it a class or a TypeAliasType"
        return BadDeclaration(name, f"its annotation names {unknown[1]!r}, which is not found", remedy)
    for pattern in _NO_JSON:
        if found := re.match(pattern, said):
            return BadDeclaration(name, f"no JSON stands for {found[1].rpartition('.')[2]}")
    problem, _, remedy = said.partition("; ")
    return BadDeclaration(name, problem, remedy or TYPES)


_NO_JSON: Final = (
    r"Unable to generate pydantic-core schema for (?:<class ')?(.+?)(?:'>)?\. Set ",
    r"Cannot generate a JsonSchema for core_schema\.IsInstanceSchema \(<class '(.+?)'>\)",
    r"Cannot generate a JsonSchema for core_schema\.(\w+)Schema",
)
"""What pydantic says of a type that it does not know, or that has no JSON Schema."""


def _for_a_person(refused: InvalidArguments, text: str) -> InvalidArguments:
    """The error, with how a list or an object is written."""
    if not re.match(r"must be (a list|an object), not a text", refused.reason):
        return refused
    hint = "write it as JSON"
    if text.startswith(("[", "{")):
        try:
            json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        except json.JSONDecodeError as error:
            hint = f"this is no JSON: {error.msg[:1].lower()}{error.msg[1:]}, at character {error.pos + 1}"
        except (ValueError, RecursionError) as error:
            hint = str(error)
    return InvalidArguments(refused.field, f"{refused.reason}; {hint}")


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return NONE


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _no_utf8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
