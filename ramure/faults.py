"""What user code raises is the failure of that part of the program, and of nothing else.

``sys.exit()`` in a tool's handler, argparse in a child, a ``KeyboardInterrupt`` or ``CancelledError`` raised by hand:
asyncio would end the whole program, or take the part for cancelled. Whoever runs user code passes what left it to
:func:`failure_of`. Three things are no failures, and are raised on: an exception of a signal's handler (Ctrl-C, and
``signal.signal(SIGTERM, lambda *_: sys.exit())``), a real cancellation, and what closes a coroutine.
"""

from __future__ import annotations

import asyncio
import dis
import signal
from collections.abc import Awaitable
from types import TracebackType
from typing import TypeVar

from ramure.errors import ExecutionFailed
from ramure.exits import format_exit
from ramure.forks import in_forked_child, leave_forked_child

__all__ = ["ExitRaised", "contained", "failure_of", "is_of_a_signal"]

T = TypeVar("T")


class ExitRaised(ExecutionFailed):
    """Code raised what is meant to end more than itself: ``SystemExit`` (``sys.exit``, argparse), ``KeyboardInterrupt``,
    ``GeneratorExit``, or ``CancelledError`` although nobody cancelled it. ``error`` is that exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(f"{format_exit(error)} ({_MEANING.get(type(error), _OTHER)})")
        self.__cause__: BaseException | None = error


_OTHER = "it ends the part of the program that raised it, and no other"
_MEANING: dict[type[BaseException], str] = {
    SystemExit: "sys.exit() ends the part of the program that calls it, and no other; to end the run, use fail() or return",
    asyncio.CancelledError: "raised although nobody cancelled this: by hand, or by awaiting a task that was cancelled",
}


def failure_of(error: BaseException) -> Exception:
    """The failure of the code that raised ``error``: an exception as it is, all else as :class:`ExitRaised`.

    Raises ``error`` where it is no failure: a signal's, a cancellation of the current task, the closing of a coroutine.
    """
    if in_forked_child():
        leave_forked_child(error)
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
    elif isinstance(error, (KeyboardInterrupt, SystemExit)):
        if is_of_a_signal(error):
            raise error
    elif not _is_raised_by_code(error.__traceback__):  # close() and throw() raise where the code waits
        raise error
    return ExitRaised(error)


async def contained(work: Awaitable[T]) -> T:
    """``await work``, for a task: one that raises SystemExit or KeyboardInterrupt would end the event loop."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise failure_of(error) from error


def is_of_a_signal(error: BaseException) -> bool:
    """Whether ``error`` is a KeyboardInterrupt or SystemExit that the handler of a signal raised: it ends the program."""
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        return False
    if in_forked_child():
        leave_forked_child(error)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {code for handler in handlers if (code := _code_of(handler)) is not None}
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    # Python's own handler has no frame: its exception appears out of any instruction.
    own = isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers
    return own and not _is_raised_by_code(error.__traceback__)


def _code_of(handler: object) -> object:
    function = getattr(handler, "func", handler)  # a functools.partial, as asyncio's
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", None)


def _is_raised_by_code(step: TracebackType | None) -> bool:
    """Whether the innermost frame stands at a ``raise``."""
    if step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    return dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")
