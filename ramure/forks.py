"""A child that user code forks (``multiprocessing``, ``os.fork``) has nothing of ramure's.

It would hold the other ends of sockets by whose closing reapers, agents and hosts notice that the program is gone, and
would remove at its exit what belongs to its parent. So in the child every descriptor that was registered with
:func:`keep_from_forks` is replaced with ``/dev/null``, finalizers do nothing, and the event loop of a run, which is its
parent's, is not run: a child that returns to it, or raises, ends there, with the status that Python would end with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, Protocol, TypeVar

__all__ = ["finalizer", "in_forked_child", "keep_from_forks", "leave_forked_child", "loop_of_a_run", "socket_of"]

T = TypeVar("T")


class HasDescriptor(Protocol):
    """A socket, or the like."""

    def fileno(self) -> int: ...


_kept: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], Iterable[HasDescriptor]]]] = weakref.WeakKeyDictionary()
_loops: Final[dict[asyncio.AbstractEventLoop, int]] = {}
_parked: Final[list[Any]] = []
_forked = False


def keep_from_forks(owner: T, sockets: Callable[[T], Iterable[HasDescriptor]]) -> T:
    """Have no forked child inherit what ``sockets(owner)`` returns when it is forked; return ``owner``. It is forgotten
    with ``owner``, which ``sockets`` must not refer to by itself."""
    _kept[owner] = sockets
    return owner


def finalizer(owner: object, function: Callable[..., object], *args: Any) -> weakref.finalize[..., Any]:
    """As ``weakref.finalize``; in a forked child it does nothing, neither when called nor at the exit."""
    here = os.getpid()

    def finalize() -> object:
        return function(*args) if os.getpid() == here else None

    return weakref.finalize(owner, finalize)


def socket_of(transport: asyncio.BaseTransport) -> list[HasDescriptor]:
    """For :func:`keep_from_forks`: the socket of a transport, while it is open."""
    found: HasDescriptor | None = transport.get_extra_info("socket")
    return [] if found is None else [found]


@contextlib.contextmanager
def loop_of_a_run() -> Iterator[None]:
    """In this block a forked child does not run the current event loop."""
    loop = asyncio.get_running_loop()
    _loops[loop] = _loops.get(loop, 0) + 1
    try:
        yield
    finally:
        _loops[loop] -= 1
        if not _loops[loop]:
            del _loops[loop]


def in_forked_child() -> bool:
    """Whether this is code of a run in a process that was forked meanwhile, on the copy of the parent's event loop."""
    return _forked and asyncio._get_running_loop() is None  # asyncio's answer is the loop that runs in this process


def leave_forked_child(error: BaseException | None = None) -> NoReturn:
    """End this process, which was forked in a run, as ``error`` ends a program; nothing of the parent's is touched."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or none at all
            stream.flush()
    os._exit(status & 0xFF)


def _after_fork_in_child() -> None:
    global _forked  # noqa: PLW0603  # a fact of the process
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for owner, sockets in list(_kept.items()):
        for each in sockets(owner):
            with contextlib.suppress(OSError):
                if (number := each.fileno()) >= 0:
                    os.dup2(null, number, inheritable=False)
    os.close(null)
    _kept.clear()
    if _loops:
        _forked = True
    for loop in _loops:
        ready: Any = getattr(loop, "_ready", None)
        if ready is not None:
            _parked.extend(ready)  # the parent's tasks are the parent's; to drop them here would be reported
            ready.clear()
        with contextlib.suppress(RuntimeError):  # closed
            loop.call_soon(leave_forked_child)
    _loops.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
