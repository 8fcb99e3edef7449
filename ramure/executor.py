"""Threads for the blocking calls of ramure itself, apart from the event loop's default executor.

The default executor belongs to the user: ``asyncio.to_thread(time.sleep, 3600)``, often enough, fills it, and an agent
that starts must not wait for that. So nothing in ramure calls ``asyncio.to_thread``, ``run_in_executor(None, …)`` or
``loop.getaddrinfo``; it calls :func:`in_thread` and :func:`resolve`.

The threads are daemons: a call that never returns does not keep the interpreter alive. At its exit, the calls under way
get ``EXIT_LIMIT`` seconds to end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar

from ramure.errors import OperationalError, with_remedy

__all__ = [
    "NoThread",
    "Threads",
    "account_for",
    "busy",
    "in_lasting_thread",
    "in_thread",
    "resolve",
    "submit",
    "unaccounted_threads",
]

P = ParamSpec("P")
T = TypeVar("T")

LIMIT: Final = 32
"""Threads at most. A call beyond waits for a free one."""

IDLE_LIMIT: Final = 10.0
"""Seconds after which a thread that has nothing to do ends."""

LAUNCHERS: Final = 2
"""Threads at most that start processes which are to end with this program."""

EXIT_LIMIT: Final = 10.0
"""Seconds that the calls under way get when the interpreter exits."""


class NoThread(OperationalError, RuntimeError):
    """The system lets this program start no thread."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(with_remedy(error))


class Threads(Executor):
    """An executor of at most ``limit`` daemon threads, started on demand. One that has nothing to do for ``idle`` seconds
    ends; with None, none does."""

    def __init__(self, limit: int, name: str, idle: float | None = IDLE_LIMIT) -> None:
        self._limit = limit
        self._name = name
        self._idle = idle
        self._reset()

    def _reset(self) -> None:
        """Forget all threads and calls: after a fork, the child has none of them."""
        self._changed = threading.Condition()
        self._queue: deque[Callable[[], None]] = deque()
        self._count = 0
        self._running = 0
        self._started = 0

    @property
    def count(self) -> int:
        """How many threads there are, idle ones included."""
        return self._count

    @property
    def busy(self) -> int:
        """How many calls run or wait for a thread."""
        return self._running + len(self._queue)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``function`` in a thread. Raises :class:`NoThread` when none is there and none can be started."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changed:
            self._queue.append(call)
            if self.busy > self._count and self._count < self._limit:
                self._start_thread()
            self._changed.notify()
        return future

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for all calls to end; return whether they did."""
        end = time.monotonic() + timeout
        while self.busy and time.monotonic() < end:
            time.sleep(0.005)
        return not self.busy

    def _start_thread(self) -> None:
        self._started += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        self._count += 1
        try:
            thread.start()
        except RuntimeError as error:  # the system's limit: the threads that are there do the work
            self._count -= 1
            if not self._count:
                self._queue.pop()
                raise NoThread(error) from error

    def _work(self) -> None:
        changed = self._changed
        while True:
            with changed:
                if not changed.wait_for(lambda: self._queue, self._idle):
                    self._count -= 1
                    return
                call = self._queue.popleft()
                self._running += 1
            try:
                call()
            finally:
                del call  # what it refers to must not live until the next one
                with changed:
                    self._running -= 1


_threads: Final = Threads(LIMIT, "ramure")
_lasting: Final = Threads(LAUNCHERS, "ramure-launch", idle=None)


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``asyncio.to_thread``, in a thread of ramure's own. The call goes on when the caller is cancelled meanwhile."""
    work = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


async def in_lasting_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """As :func:`in_thread`, in a thread that ends with the program and not before: for what starts a process that asked
    the kernel to be killed when its parent ends. To Linux that is the *thread* that started it (prctl(2),
    ``PR_SET_PDEATHSIG``)."""
    work = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_lasting, work)


def submit(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call ``function`` in a thread of ramure's own, for who must see its end also when the event loop is closed."""
    return _threads.submit(functools.partial(contextvars.copy_context().run, function, *args, **kwargs))


async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Addresses to which a stream socket for ``host`` and ``port`` can be bound or connected, as ``socket.getaddrinfo``
    returns them. Raises OSError."""
    return await in_thread(socket.getaddrinfo, host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def busy() -> int:
    """How many calls of ramure's own threads run or wait."""
    return _threads.busy + _lasting.busy


_accounted: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()


def account_for(thread: threading.Thread) -> None:
    """Say that each piece of work of this thread is known to the event loop while it lasts (its ``hold_time``), or is
    nothing that the loop waits for. A loop whose time is virtual then need not wait for the thread itself."""
    _accounted.add(thread)


def unaccounted_threads() -> int:
    """How many threads, besides this one, may be at work without the event loop's knowledge."""
    ours = _threads.count + _lasting.count
    return sum(each not in _accounted for each in threading.enumerate()) - 1 - ours


for _each in (_threads, _lasting):
    os.register_at_fork(after_in_child=_each._reset)
    atexit.register(_each.wait_until_idle, EXIT_LIMIT)
