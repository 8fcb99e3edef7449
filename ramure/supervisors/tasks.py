"""Tasks under supervision, after Elixir's Task.Supervisor: work with a result, whose failure costs nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ramure.actors import ActorSystem, Ref
from ramure.errors import OperationalError, UsageError
from ramure.exits import KILL, SHUTDOWN, Crashed, format_exit
from ramure.supervisors.dynamic import DynamicSupervisor
from ramure.supervisors.spec import ChildSpec, Shutdown

__all__ = ["TIMED_OUT", "Failed", "Ok", "Task", "TaskFailed", "TaskSupervisor"]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  an item
P = ParamSpec("P")

TIMED_OUT = "timeout"
"""The reason of a task that :meth:`TaskSupervisor.async_stream` killed since it took too long."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A task returned ``value``."""

    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """A task did not return; ``reason`` is its exit reason, or ``"timeout"``."""

    reason: object


class TaskFailed(OperationalError):
    """Awaiting a task that did not return. The exception that ended it, if one did, is ``__cause__``."""

    def __init__(self, target: str, reason: object) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"{target} did not return: {format_exit(reason)}")


class Task(Generic[T]):
    """A running task: await it for its value, or ``outcome()``. ``ref`` is its actor."""

    def __init__(self, ref: Ref[Any], box: list[T]) -> None:
        self.ref = ref
        self._box = box

    async def outcome(self) -> Ok[T] | Failed:
        """How it ended: ``Ok(value)``, or ``Failed(reason)``; never raises for the task's own failure."""
        reason = await self.ref.wait()
        return Ok(self._box[0]) if self._box else Failed(reason)

    def __await__(self) -> Generator[Any, None, T]:
        return self._value().__await__()

    async def _value(self) -> T:
        outcome = await self.outcome()
        if isinstance(outcome, Ok):
            return outcome.value
        reason = outcome.reason
        raise TaskFailed(self.ref.label, reason) from (reason.exception if isinstance(reason, Crashed) else None)

    def kill(self) -> None:
        """End it at once."""
        self.ref.exit(KILL)


class TaskSupervisor:
    """Starts tasks as temporary children of a :class:`DynamicSupervisor`::

        async with TaskSupervisor(system) as tasks:
            page = await tasks.async_nolink(fetch, url)         # its failure raises here, at the await
            async for outcome in tasks.async_stream(fetch, urls, max_concurrency=4, timeout=30):
                ...                                             # Ok(page) or Failed(reason)

    Leaving the block stops the tasks that still run, all at once, within ``shutdown``. In a tree, start the
    DynamicSupervisor as a child and use ``TaskSupervisor(system, ref)``: the tree stops it.
    """

    def __init__(
        self, system: ActorSystem, ref: Ref[DynamicSupervisor] | None = None, shutdown: Shutdown = 5.0
    ) -> None:
        self.system = system
        self.shutdown = shutdown
        self._ref = ref
        self._owned = ref is None

    async def __aenter__(self) -> Self:
        if self._ref is None:
            self._ref = await self.system.start(DynamicSupervisor)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned and self.ref.is_alive():
            await self.ref.stop(SHUTDOWN)

    @property
    def ref(self) -> Ref[DynamicSupervisor]:
        """The supervisor's ref."""
        if self._ref is None:
            raise UsageError("use it as `async with TaskSupervisor(system) as tasks:`")
        return self._ref

    async def async_nolink(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start ``await function(*args, **kwargs)`` as a task, not linked to the caller.

        Raises what ``DynamicSupervisor.start_child`` raises, ActorDied when the supervisor has ended.
        """
        box: list[T] = []
        child = ChildSpec(
            getattr(function, "__qualname__", "task"),
            _run,
            (box, function, args, kwargs),
            restart="temporary",
            shutdown=self.shutdown,
        )
        ref = await self.ref.proxy(timeout=None).start_child(child)
        assert ref is not None  # a function-style actor is never ignored
        return Task(ref, box)

    async def async_stream(
        self,
        function: Callable[[I], Awaitable[T]],
        items: Iterable[I] | AsyncIterable[I],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float | None = 5.0,
    ) -> AsyncIterator[Ok[T] | Failed]:
        """Run ``function`` on each item, at most ``max_concurrency`` at a time, and yield how each ended.

        ``ordered``: in the order of the items, else as they end. A task that takes longer than ``timeout``
        seconds is killed and gives ``Failed("timeout")``. Items are taken from ``items`` only as there is
        room. When the loop is left early (``aclosing`` makes sure of it), the tasks under way are killed.
        """
        if max_concurrency < 1:
            raise UsageError(f"max_concurrency={max_concurrency!r}: give 1 or more")
        source = aiter(items) if isinstance(items, AsyncIterable) else _each(items)
        running: dict[asyncio.Task[Ok[T] | Failed], tuple[int, Task[T]]] = {}
        ended: dict[int, Ok[T] | Failed] = {}
        started = given = 0
        more = True
        try:
            while True:
                while more and len(running) < max_concurrency:
                    try:
                        item = await anext(source)
                    except StopAsyncIteration:
                        more = False
                        break
                    task = await self.async_nolink(function, item)
                    running[asyncio.ensure_future(_timed(self.system, task, timeout))] = (started, task)
                    started += 1
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in sorted(done, key=lambda watcher: running[watcher][0]):
                    number, _ = running.pop(each)
                    if ordered:
                        ended[number] = each.result()
                    else:
                        yield each.result()
                while given in ended:
                    yield ended.pop(given)
                    given += 1
        finally:
            for watcher, (_, task) in running.items():
                watcher.cancel()
                task.kill()


async def _run(box: list[T], function: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> None:
    box.append(await function(*args, **kwargs))


async def _timed(system: ActorSystem, task: Task[T], timeout: float | None) -> Ok[T] | Failed:
    late = False

    def kill() -> None:
        nonlocal late
        late = True
        task.kill()

    timer = None if timeout is None else system.clock.call_later(timeout, kill)
    try:
        outcome = await task.outcome()
    finally:
        if timer is not None:
            timer.cancel()
    return Failed(TIMED_OUT) if late and isinstance(outcome, Failed) else outcome


async def _each(items: Iterable[I]) -> AsyncIterator[I]:
    for item in items:
        yield item
