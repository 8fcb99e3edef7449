"""Eager verbs: calling one acts, awaiting what it returns waits for the answer.

The message goes out when the verb is called, so un-awaited calls arrive in program order. A failure that nobody awaits
is not lost: it fails the process whose code called the verb, with the line of the call.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ramure.places import Place, here
from ramure.runtime.process.messages import Unawaited

if TYPE_CHECKING:
    from ramure.actors import ActorSystem
    from ramure.runtime.process.record import ProcessRecord

__all__ = ["Answer", "Eager", "Explain", "Failure", "answers_came", "take_failures"]

UNAWAITED: Final = 5.0
"""Seconds that the end of a function waits for the answers of eager verbs that nobody has awaited: they may be errors."""

_numbers = itertools.count()

Explain: TypeAlias = Callable[[BaseException], BaseException | None]
"""The error that the caller gets for one of an actor's; None: that is no failure."""

_running_loop = asyncio._get_running_loop


class Failure(NamedTuple):
    """What an eager verb failed with, and where it was called."""

    error: BaseException
    note: str


class Answer(asyncio.Future[Any]):
    """The answer to an eager verb. Those who wait for it are woken in the turn in which it comes."""

    def __init__(self, system: ActorSystem, owner: ProcessRecord, what: str, explain: Explain | None) -> None:
        super().__init__(loop=system.loop)
        self.number: int = next(_numbers)
        """In the order of the calls."""
        self.owner = owner
        self.what = what
        self.waiters: list[asyncio.Future[None]] = []
        self.awaited: bool = False
        """True when somebody has awaited it: its failure is theirs."""
        self._dropped = False
        self._explain = explain
        self.where: Place = here(2)  # for Eager, and who makes one
        owner.unawaited.add(self)

    def taken(self) -> None:
        """Somebody awaits it."""
        if not self.awaited:
            self.awaited = True
            self.owner.unawaited.discard(self)

    @property
    def failed(self) -> bool:
        """True when it is there, and is an error."""
        return self.done() and not self.cancelled() and self.exception() is not None

    def set_result(self, value: Any) -> None:
        super().set_result(value)
        self._came()

    def set_exception(self, error: Any) -> None:
        explained = error if self._explain is None else self._explain(error)
        if explained is None:
            self.set_result(None)
            return
        super().set_exception(explained)
        self._log_traceback = False  # whether anybody sees it is told by the process
        self._came()

    def _came(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.awaited:
            return
        if not self.failed:
            self.owner.unawaited.discard(self)
        elif self._dropped:
            self._count()

    def drop(self) -> None:
        """The program has let go of it, and has never awaited it. From any thread."""
        self._dropped = True
        if self.failed:
            self._count()

    def _count(self) -> None:
        """Nobody will ever await this failure: it is the process's."""
        if self.owner.ref is not None:
            self.owner.ref.tell(Unawaited())

    @property
    def dropped(self) -> bool:
        """True when nobody can await it any more."""
        return self._dropped

    def failure(self) -> Failure:
        """Its error, which nobody has awaited."""
        error = self.exception()
        assert error is not None
        note = f"from {self.what}, called at {self.where}, which nobody awaited"
        error.add_note(note)
        return Failure(error, note)


class Eager(Coroutine[Any, Any, None]):
    """What an eager verb returns; the verb has acted already.

    ``await`` it for the answer, as often as you like, also in several tasks. It is a coroutine too: for ``create_task``,
    ``TaskGroup``, ``gather``, ``wait_for``, ``run_coroutine_threadsafe``. To drop it, or to cancel those who await it,
    undoes nothing.
    """

    __slots__ = ("__weakref__", "_drivers", "_stays", "_system", "answer")

    def __init__(
        self,
        system: ActorSystem,
        owner: ProcessRecord,
        what: str,
        explain: Explain | None = None,
        *,
        stays: bool = False,
    ) -> None:
        """``owner``: whose failure it is if nobody awaits it. ``stays``: the last who awaits it waits for the answer even
        if cancelled meanwhile."""
        self.answer: Answer = Answer(system, owner, what, explain)
        self._system = system
        self._stays = stays
        self._drivers: dict[object, Generator[Any, Any, None]] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        answer = self.answer
        answer.taken()
        loop = _running_loop()
        if loop is not answer.get_loop():
            yield from self._system.await_there(self._there()).__await__()
            return
        while not answer.done():
            waiter = loop.create_future()
            answer.waiters.append(waiter)
            try:
                yield from waiter
            except BaseException as left:
                if waiter in answer.waiters:
                    answer.waiters.remove(waiter)
                if self._stays and not answer.waiters and isinstance(left, asyncio.CancelledError):
                    continue
                raise
        answer.result()

    async def _there(self) -> None:
        await self

    # -- as a coroutine: each task that runs it is another who awaits it ---------------------------------------

    def send(self, value: Any, /) -> Any:
        return self._step(lambda driver: driver.send(value))

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        error = kind if value is None else value if isinstance(value, BaseException) else kind(value)
        if isinstance(error, type):
            error = error()
        if traceback is not None:
            error = error.with_traceback(traceback)
        return self._step(lambda driver: driver.throw(error))

    def close(self) -> None:
        driver = None if self._drivers is None else self._drivers.pop(_task(), None)
        if driver is not None:
            driver.close()

    def _step(self, step: Callable[[Generator[Any, Any, None]], Any]) -> Any:
        if self._drivers is None:
            self._drivers = {}
        self.answer.taken()  # also where the task is cancelled before its first step
        task = _task()
        driver = self._drivers.get(task)
        if driver is None:
            driver = self._drivers[task] = self.__await__()
        try:
            return step(driver)
        except BaseException:
            del self._drivers[task]
            raise

    # -- its end ----------------------------------------------------------------------------------------------

    def __del__(self) -> None:
        answer = self.answer
        if not answer.awaited:
            answer.drop()

    def __repr__(self) -> str:
        answer = self.answer
        state = "pending" if not answer.done() else "failed" if answer.failed else "done"
        return f"<{answer.what}, called at {answer.where}: {state}>"


def take_failures(record: ProcessRecord, *, dropped: bool = False) -> list[Failure]:
    """The failures of eager verbs that ``record``'s code has called and nobody has awaited, in the order of the calls.
    ``dropped``: only those that nobody can await any more. Each is returned once."""
    failed = [answer for answer in list(record.unawaited) if answer.failed and (answer.dropped or not dropped)]
    record.unawaited.difference_update(failed)
    return [answer.failure() for answer in sorted(failed, key=lambda answer: answer.number)]


async def answers_came(record: ProcessRecord) -> None:
    """Return when all eager verbs that nobody has awaited have an answer, or their time is up."""
    under_way = [answer for answer in list(record.unawaited) if not answer.done()]
    if under_way:
        await asyncio.wait(under_way, timeout=UNAWAITED)


def _task() -> object:
    """The task that is running; None outside of all."""
    loop = _running_loop()
    return None if loop is None else asyncio.current_task(loop)
