"""Where a program is: ``file:line`` of its own code, for errors and warnings. Taken at little cost, worded when needed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any, NamedTuple, ParamSpec, TypeVar

__all__ = ["Place", "here", "missing_await", "names_its_line", "place_of", "place_of_call"]

P = ParamSpec("P")
R = TypeVar("R")


class Place(NamedTuple):
    """A place in a program; its text is ``file:line``."""

    code: CodeType
    at: int
    """The offset of the instruction."""

    def __str__(self) -> str:
        lines = (line for start, end, line in self.code.co_lines() if start <= self.at < end and line is not None)
        return f"{self.code.co_filename}:{next(lines, self.code.co_firstlineno)}"


def here(deep: int = 0) -> Place:
    """The place outside of ramure that has called the code that calls this. ``deep``: frames above, known to be ours."""
    frame = sys._getframe(1 + deep)
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__")
        if not isinstance(name, str) or not name.startswith("ramure."):
            break
        frame = frame.f_back
    return Place(frame.f_code, frame.f_lasti)


def place_of_call() -> str:
    """``file:line`` of the call of the async verb that runs here; "" where nobody can tell."""
    place = here()
    if not place.code.co_filename.startswith(_ASYNCIO):
        return str(place)
    task = asyncio.current_task()  # made of the call itself, as by gather()
    return _origin(task.get_coro() if task is not None else None)


_ASYNCIO = os.path.dirname(asyncio.__file__)
_RAMURE = os.path.dirname(__file__)


def _origin(coroutine: object) -> str:
    origin = getattr(coroutine, "cr_origin", None) or ()
    return next((f"{file}:{line}" for file, line, _ in origin if not file.startswith(_RAMURE)), "")


def place_of(function: object) -> str:
    """``file:line`` of a function's definition; "" where it has none."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""


def names_its_line(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """For an async verb: if its ``await`` is missing, Python's warning names the line of the call."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        depth = sys.get_coroutine_origin_tracking_depth()
        if depth >= _DEPTH:
            return function(*args, **kwargs)
        sys.set_coroutine_origin_tracking_depth(_DEPTH)  # of this thread, for this one call
        try:
            return function(*args, **kwargs)
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)

    return call


_DEPTH = 3
"""Frames: the wrapper's, ramure's own around that, if any, and that of the program."""


def missing_await(value: object) -> str:
    """What to do about a coroutine that stands where its result should; "" for anything else."""
    if not inspect.iscoroutine(value):
        return ""
    origin = _origin(value)
    at = f", called at {origin}" if origin else ""
    return f"{value.__qualname__}(){at}, lacks an `await`: write `await {value.__name__}(...)`"
