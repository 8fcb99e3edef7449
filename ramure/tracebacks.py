"""Tracebacks as whoever wrote the program wants them: the program's own frames, without those between.

Left out are the frames of ramure and of what carries it (asyncio, concurrent.futures, threading, pykka). They stay where
there are no others, and where such a frame itself raised what is no error of ramure's: then a defect is to be found.
``RAMURE_FULL_TRACEBACK=1`` in the environment leaves all frames in.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import traceback
from collections.abc import Iterator
from concurrent import futures
from types import TracebackType
from typing import Final, TypeVar

from ramure.errors import RamureError
from ramure.exits import Crashed, Shutdown
from ramure.masking import masked

__all__ = ["FULL", "fold", "format_traceback", "is_of_a_carrier", "is_ours"]

E = TypeVar("E", bound=BaseException)

FULL: Final = "RAMURE_FULL_TRACEBACK"


def _directory(file: str | None) -> str:
    return os.path.join(os.path.dirname(file or ""), "")


_OURS: Final = _directory(__file__)
_PYKKA: Final = importlib.util.find_spec("pykka")
_CARRIERS: Final = (
    *map(_directory, (asyncio.__file__, futures.__file__, _PYKKA.origin if _PYKKA else None)),
    threading.__file__,
)


def is_ours(file: str) -> bool:
    """Whether this is a file of ramure."""
    return file.startswith(_OURS)


def is_of_a_carrier(file: str) -> bool:
    """Whether this is a file of what carries it."""
    return file.startswith(_CARRIERS)


def fold(error: E) -> E:
    """Leave those frames out of the traceback of an exception, of those that caused it and of those in its group.
    Returns the exception; everything else of it stays."""
    if not _full():
        for each in _all(error):
            each.__traceback__ = _folded(each)
    return error


def format_traceback(reason: object) -> str:
    """What Python would print for the exception behind a :class:`Crashed` reason (also inside a :class:`Shutdown`), without
    those frames and without secrets; ``""`` where there is none. The exception stays as it is."""
    if isinstance(reason, Shutdown):
        return format_traceback(reason.detail)
    exception = reason.exception if isinstance(reason, Crashed) else reason
    if not isinstance(exception, BaseException):
        return ""
    kept = [(each, each.__traceback__) for each in _all(exception)]
    try:
        return masked("".join(traceback.format_exception(fold(exception))))
    finally:
        for each, trace in kept:
            each.__traceback__ = trace


def _full() -> bool:
    return os.environ.get(FULL, "") not in ("", "0")


def _all(error: BaseException) -> Iterator[BaseException]:
    """The exception, and all that its traceback tells of."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions


def _folded(error: BaseException) -> TracebackType | None:
    steps: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        steps.append(step)
        step = step.tb_next
    files = [each.tb_frame.f_code.co_filename for each in steps]
    programs = [n for n, file in enumerate(files) if not is_ours(file) and not is_of_a_carrier(file)]
    own = isinstance(error, RamureError)
    if not programs:  # its text says it all, or it is a defect of ours
        return None if own else error.__traceback__
    shown = set(programs)
    if not own:
        shown.update(n for n in range(programs[-1] + 1, len(steps)) if is_ours(files[n]))
    if len(shown) == len(steps):
        return error.__traceback__
    folded: TracebackType | None = None
    for n in sorted(shown, reverse=True):
        folded = TracebackType(folded, steps[n].tb_frame, steps[n].tb_lasti, steps[n].tb_lineno)
    return folded
