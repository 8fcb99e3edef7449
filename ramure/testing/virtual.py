"""Virtual time: an asyncio event loop whose clock jumps to the next timer as soon as there is nothing else to do.

``run_virtual(main())`` is ``asyncio.run`` with such a loop: ``await asyncio.sleep(3600)`` returns at once in real time,
and ``loop.time()`` has gone on by an hour. Sockets and threads work: they are polled, and given some real time before
the clock jumps. A program that waits for what can never come is told so, where ``asyncio.run`` would hang.

With a ``seed``, tasks that are ready at the same moment run in an order drawn from it: the same seed, the same order.
What asyncio promises is kept: only steps of *different tasks*, next to each other in the queue, change places. Plain
callbacks (``call_soon``, transports, done callbacks) stay where they are, and no task's step passes one.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import math
import os
import random
import selectors
from collections import deque
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, TypeVarTuple, Unpack

from ramure import executor
from ramure.clock import LoopClock
from ramure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from contextvars import Context

__all__ = ["DeadlockError", "VirtualClock", "VirtualLoop", "run_virtual", "virtual_time"]

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

EPOCH: Final = 1_600_000_000.0
"""What :class:`VirtualClock` says it is (Unix time) when a virtual loop starts."""


_OURS: Final = (os.path.dirname(asyncio.__file__), os.path.dirname(os.path.dirname(__file__)), "<frozen")
"""Where the files of asyncio and of ramure are."""


class DeadlockError(UsageError):
    """The program waits for what cannot come, or for longer than the limit. The text names each task and its place."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time; see :func:`run_virtual` for the arguments.

    ``random`` is the generator made from the seed (None without one), for a scheduler that has choices of its own.
    """

    # asyncio's own, which have been the same since Python 3.4.
    _selector: selectors.BaseSelector
    _scheduled: list[asyncio.TimerHandle]
    _ready: deque[asyncio.Handle]
    _check_closed: Callable[[], None]
    _default_executor: Executor | None

    def __init__(
        self,
        seed: int | None = None,
        *,
        shuffle_tasks: bool = True,
        socket_grace: float = 0.005,
        thread_grace: float = 1.0,
        deadlock_after: float = 5.0,
        limit: float = 7 * 86_400.0,
    ) -> None:
        self.random: random.Random | None = None if seed is None else random.Random(seed)
        self._now = 0.0
        self._jobs = 0
        self._timers = 0
        self._in_real_time = False
        self._socket_grace = socket_grace
        self._thread_grace = thread_grace
        self._deadlock_after = deadlock_after
        self._limit = limit
        super().__init__(_VirtualSelector(self))
        # The descriptors of the loop itself, of which nothing is to be expected.
        self._own_descriptors = len(self._selector.get_map())
        if self.random is not None and shuffle_tasks:
            self._ready = _ShuffledQueue(self.random)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()
        timer = _Timer(when, callback, args, self, context)
        timer.number = self._timers = self._timers + 1
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.hold_time(future)
        return future

    def hold_time(self, future: asyncio.Future[Any]) -> None:
        """Until ``future`` is done a thread is at work: before time jumps, it gets its grace."""
        self._jobs += 1
        future.add_done_callback(self._job_done)

    async def shutdown_default_executor(self, *args: Any) -> None:
        # It waits for threads with a time-out, which must not run in virtual time.
        self._in_real_time = True
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._in_real_time = False

    def _job_done(self, future: object) -> None:
        self._jobs -= 1

    # -- for the selector

    def listens(self) -> bool:
        """Whether to look at sockets now."""
        return True

    def patience(self) -> float:
        """How long, in real seconds, something may yet come from outside, so that time must not jump."""
        if self._jobs or executor.busy():
            return self._thread_grace
        # The executors' threads wait for jobs, which are counted.
        if executor.unaccounted_threads() > len(getattr(self._default_executor, "_threads", ())):
            return self._socket_grace
        # With no other thread at work, the kernel hands on what this one sends before its send returns, nearly always.
        return self._socket_grace / 5 if len(self._selector.get_map()) > self._own_descriptors else 0.0

    def jump(self) -> None:
        """Go on to the next timer. Raises :class:`DeadlockError` past the limit."""
        due = self._scheduled[0].when()
        if due > self._limit:
            raise DeadlockError(
                f"not done after {self._limit:g} virtual seconds; pass limit= for more\n{describe_waits(self)}"
            )
        self._now = max(self._now, due)
        # A timer is due when it is earlier than now plus this; far out, a fixed one would be lost in rounding.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._now))

    def wait_for_ever(self) -> float:
        """How long, in real seconds, to wait when no timer is set. Raises :class:`DeadlockError` if for nothing."""
        if not self.patience():
            raise DeadlockError(f"nothing is scheduled, so this would wait for ever\n{describe_waits(self)}")
        return self._deadlock_after

    def waited_in_vain(self) -> None:
        """Nothing came in :meth:`wait_for_ever` seconds."""
        raise DeadlockError(
            f"nothing is scheduled, and nothing came from sockets or threads in {self._deadlock_after:g} real seconds\n"
            f"{describe_waits(self)}"
        )


class VirtualClock(LoopClock):
    """The running virtual loop's time; ``wall()`` too goes by it, from a fixed day on."""

    def wall(self) -> float:
        """Virtual Unix time."""
        return EPOCH + self.monotonic()


def run_virtual(
    main: Coroutine[Any, Any, T],
    *,
    seed: int | None = None,
    shuffle_tasks: bool = True,
    socket_grace: float = 0.005,
    thread_grace: float = 1.0,
    deadlock_after: float = 5.0,
    limit: float = 7 * 86_400.0,
) -> T:
    """Run ``main`` as ``asyncio.run`` does, in virtual time; return its result.

    ``seed`` draws the order of tasks that are ready together (``shuffle_tasks=False``: it only seeds ``loop.random``).
    Before time jumps, work in the loop's executor gets ``thread_grace`` real seconds to end; other threads get
    ``socket_grace`` to bring something, and open sockets alone a fifth of that. With no timer set, sockets and threads get ``deadlock_after`` real
    seconds. Raises :class:`DeadlockError` when nothing can happen any more, or after ``limit`` virtual seconds.
    """
    factory = functools.partial(
        VirtualLoop,
        seed,
        shuffle_tasks=shuffle_tasks,
        socket_grace=socket_grace,
        thread_grace=thread_grace,
        deadlock_after=deadlock_after,
        limit=limit,
    )
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def virtual_time(**options: Any) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, T]]:
    """Make an ``async def`` test a plain one that runs in virtual time: ``@virtual_time(seed=7)``.

    ``options`` are those of :func:`run_virtual`.
    """

    def decorate(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return run_virtual(test(*args, **kwargs), **options)

        return run

    return decorate


class _VirtualSelector(selectors.DefaultSelector):
    """Polls; and where a real selector would wait, lets time jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0) if self._loop.listens() else []
        if found or (timeout is not None and timeout <= 0):
            return found
        loop = self._loop
        if loop._in_real_time:
            return super().select(timeout)
        if timeout is None:
            found = super().select(loop.wait_for_ever())
            if not found:
                loop.waited_in_vain()
            return found
        patience = loop.patience()
        if patience:
            found = super().select(patience)
        if not found:
            loop.jump()
        return found


class _Timer(asyncio.TimerHandle):
    """A timer; of those that are due at the same time, the one set first is first (on a real clock, no two are)."""

    __slots__ = ("number",)
    number: int
    _scheduled: bool

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Timer):
            return NotImplemented
        return (self.when(), self.number) < (other.when(), other.number)


class _ShuffledQueue(deque[asyncio.Handle]):
    """The loop's queue of ready callbacks: of the steps of tasks at its head, any may come first."""

    def __init__(self, generator: random.Random) -> None:
        super().__init__()
        self._random = generator

    def popleft(self) -> asyncio.Handle:
        """The next callback. At most 32 of them are drawn from, which bounds what a step costs."""
        candidates, most = 0, min(len(self), 32)
        # By index: another thread may append meanwhile (call_soon_threadsafe), which an iterator does not survive.
        while candidates < most and is_step(self[candidates]):
            candidates += 1
        if candidates < 2:
            return super().popleft()
        chosen = self._random.randrange(candidates)
        handle = self[chosen]
        del self[chosen]
        return handle


def is_step(handle: asyncio.Handle) -> bool:
    """Whether it is a step of a task: recognised as asyncio's own ``_format_handle`` does it."""
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    return isinstance(owner, asyncio.Task) and getattr(callback, "__name__", "") != "cancel"


def describe_waits(loop: asyncio.AbstractEventLoop) -> str:
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "\n".join(f"  {task.get_name()} waits in {_place(task)}" for task in tasks)


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost place of the task's own code that can be seen, if there is one outside of ramure and asyncio: there."""
    awaited: Any = task.get_coro()
    place, theirs = repr(awaited), ""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            place = f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
            if not frame.f_code.co_filename.startswith(_OURS):
                theirs = place
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return theirs or place
