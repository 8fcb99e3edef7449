"""``each``: bounded work. One process for each of many items, at most so many at once, and their results."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from ramure.errors import UsageError
from ramure.places import here, missing_await
from ramure.runtime.process.checks import check_count, check_limit
from ramure.runtime.process.scope import process_here
from ramure.runtime.process.stream import EventStream
from ramure.runtime.trees.fanout import EachPlan, ItemResult, Work
from ramure.runtime.trees.slots import ProcessFunction
from ramure.runtime.trees.supervision import ChildrenFailed, tells_failure
from ramure.supervisors import ChildSpec, Flags

if TYPE_CHECKING:
    from ramure.runtime.process.record import ProcessRecord
    from ramure.supervisors import Backoff
    from ramure.supervisors.spec import Restart

__all__ = ["Each", "ItemResult", "ResultIterator", "each"]

I = TypeVar("I")  # noqa: E741  an item
R = TypeVar("R")
I_contra = TypeVar("I_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class OneArgument(Protocol[I_contra, R_co]):
    """A function decorated with ``@agent_process`` that can be called with one item."""

    @property
    def run_options(self) -> Any: ...

    def __call__(self, item: I_contra, /) -> Coroutine[Any, Any, R_co]: ...


def each(
    function: OneArgument[I, R],
    items: Iterable[I] | AsyncIterable[I],
    *,
    limit: int = 6,
    restart: Restart = "transient",
    max_restarts: int = 3,
    within: float = 600,
    backoff: Backoff | None = None,
    key: Callable[[I], Any] | None = None,
    name: str = "each",
    retain: int | None = 1000,
) -> Each[I, R]:
    """Run ``function(item)`` as a process for each of ``items``, at most ``limit`` at once::

        async for result in each(run_task, specs, limit=6):     # as they end
            print(result.item, result.error or result.value)
        summaries = await each(run_task, specs, limit=6)        # all, in the order of the items

    The processes are children of a supervised tree, which is a child of this process and ends with it. One that failed
    is started again with its item (``restart="temporary"``: never), after ``backoff``; after more than ``max_restarts``
    restarts within ``within`` seconds the item's result has the last ``error``. This costs the other items nothing.

    ``items`` may be async, and endless: one is read whenever a child can be started, and none while ``limit`` results
    wait for the iteration. If ``items`` (or ``key``) raises, no more are read; the iteration raises that error after the
    results of the children that were under way. An iteration that is left (``break``, an exception, a cancellation) ends
    the children under way; ``aclose()`` of the iterator waits for that.

    ``await`` raises ChildrenFailed if any item failed, which has ``failures`` and ``results`` by key: the number of the
    item, or what ``key(item)`` returns. Keys are the sources of the events, too; only for ``await`` have they to be
    unique. ``events`` of what this returns is the tree's stream, as ``supervise`` describes it, and ``bubble`` takes it;
    it keeps the newest ``retain`` events. ``name`` is the tree's in ``ramure tree``.
    """
    parent = process_here("each()")
    _check_function(function)
    _check_items(items)
    check_limit("each()", limit)
    check_count("each()", "retain", retain)
    if restart not in ("transient", "temporary"):
        remedy = "choose transient (after a failure) or temporary (never); a permanent child never has a result"
        raise UsageError(f"each(): restart={restart!r}: {remedy}")
    if key is not None and not callable(key):
        raise UsageError(f"each(): key={key!r}: give a function of an item, str for example")
    # The other options are checked by the classes that take them.
    Flags(backoff=backoff)
    ChildSpec("each", function, intensity=max_restarts, period=within)
    process = cast("ProcessFunction", function)
    plan = EachPlan(name, process, items, limit, restart, max_restarts, within, backoff, key)
    return Each(parent, plan, EventStream(retain, tells_end=tells_failure))


class Each(Generic[I, R]):
    """What :func:`each` returns: iterate over it, or await it, once. Nothing is started before."""

    def __init__(self, parent: ProcessRecord, plan: EachPlan[I], stream: EventStream) -> None:
        self._used = True  # where the rest of this raises, there is nothing to warn of
        self._parent = parent
        self._work: Work[I, R] = Work(plan, stream)
        self._place = here()
        self._used = False

    @property
    def name(self) -> str:
        """The tree's name."""
        return self._work.plan.name

    @property
    def events(self) -> EventStream:
        """What the tree and its children emit, each child's with its key as the source."""
        return self._work.stream

    def __aiter__(self) -> ResultIterator[I, R]:
        self._start()
        return ResultIterator(self._work)

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._all().__await__()

    async def _all(self) -> list[R]:
        self._start(unique=True)
        work = self._work
        results: list[ItemResult[I, R]] = []
        try:
            while (result := await work.take()) is not None:
                results.append(result)
        except BaseException:
            await work.end()
            raise
        failures = {result.key: result.error for result in results if result.error is not None}
        if failures or work.stopped_by is not None:
            values = {result.key: result.value for result in results if result.error is None}
            raise ChildrenFailed(failures, values, work.stopped_by) from work.stopped_by
        return [result.value for result in sorted(results, key=lambda result: result.number)]

    def _start(self, *, unique: bool = False) -> None:
        if self._used:
            raise UsageError(f"{self!r} has been iterated over or awaited already: call each() again")
        process_here("each()")
        self._used = True
        self._work.start(self._parent, unique=unique)

    def __del__(self) -> None:
        if not self._used:
            warnings.warn(
                f"{self!r}, called at {self._place}, was never iterated over or awaited: nothing was started",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"<each({self._work.plan.function.name}, ...)>"


class ResultIterator(AsyncIterator[ItemResult[I, R]]):
    """The results of an :class:`Each` as they come. When it is dropped, what is still under way is cancelled."""

    def __init__(self, work: Work[I, R]) -> None:
        self._work = work
        self._over = False

    def __aiter__(self) -> ResultIterator[I, R]:
        return self

    async def __anext__(self) -> ItemResult[I, R]:
        """The next result. A cancelled call takes none, and ends nothing."""
        if self._over:
            raise StopAsyncIteration
        result = await self._work.take()
        if result is not None:
            return result
        self._over = True
        if self._work.stopped_by is not None:
            raise self._work.stopped_by
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End what is under way; returns when it has ended."""
        self._over = True
        await self._work.end()

    def __del__(self) -> None:
        self._work.leave()


def _check_function(function: Any) -> None:
    if not hasattr(function, "run_options"):
        raise UsageError(f"each({function!r}): give a function that is decorated with @agent_process")
    try:
        inspect.signature(function.function).bind(None)
    except TypeError as error:
        raise UsageError(
            f"each({function!r}): the function is called with one item, which it does not take ({error}); "
            "give a function of one argument, and pick the item apart in it"
        ) from None


def _check_items(items: object) -> None:
    if isinstance(items, (str, bytes)):
        raise UsageError(f"each(): items={items!r} is one text; give a list of items, or another iterable")
    if not isinstance(items, (Iterable, AsyncIterable)):
        raise UsageError(f"each(): items={items!r} is no iterable; {missing_await(items) or 'give a list of items'}")
