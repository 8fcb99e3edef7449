"""Drives one coroutine at a time without an ``asyncio.Task`` for it.

Most handlers finish without ever waiting; a Task for each would cost more than the handler. So the
kernel steps a handler's coroutine itself and *is* the current task meanwhile: ``asyncio.timeout``,
``TaskGroup`` and libraries that ask for ``current_task()`` work, since :class:`Steps` answers the
documented protocol for third-party tasks (Python docs, "Extending asyncio": ``_enter_task``,
``_leave_task``, and futures that are yielded with ``_asyncio_future_blocking`` set).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from typing import Any

from ramure.actors._kernel.sparse import Sparse
from ramure.faults import is_of_a_signal
from ramure.masking import get_logger

logger: logging.Logger = get_logger("ramure.actors")


class _Ended(BaseException):
    """Thrown into what a dead actor was doing. Not GeneratorExit: before Python 3.13 ``close()`` of a coroutine leaves an
    async generator that it iterates over as it is, so that neither its ``finally`` blocks nor its ``aclose`` can run."""


def _unwind(coro: Coroutine[Any, Any, Any]) -> None:
    try:
        coro.throw(_Ended())
    except (_Ended, StopIteration):
        return
    coro.close()
    raise RuntimeError("a finally block waits for something; an actor that is dead cannot, and the block ends there")


class Steps:
    """A task-like driver. Subclasses say what follows with :meth:`_finished` and :meth:`_failed`."""

    # Slots, so that an idle actor is small; what is seldom needed has none.
    __slots__ = ("__weakref__", "_rare", "_waiter", "coro", "loop")

    _must_cancel: Sparse[bool] = Sparse(False)
    _cancel_message: Sparse[Any] = Sparse(None)
    _cancel_requests: Sparse[int] = Sparse(0)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.coro: Coroutine[Any, Any, Any] | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self._rare: dict[str, Any] | None = None

    @property
    def context(self) -> contextvars.Context:
        """What the coroutine runs in."""
        raise NotImplementedError

    def _finished(self, value: Any) -> None:
        """The coroutine returned ``value``."""
        raise NotImplementedError

    def _failed(self, error: BaseException) -> None:
        """``error`` left the coroutine."""
        raise NotImplementedError

    # -- stepping ---------------------------------------------------------------------------------

    def _wait_for(self, trap: Any) -> None:
        """The coroutine suspended and yielded ``trap``: arrange for its resumption."""
        if trap is None:  # a bare yield, as asyncio.sleep(0)
            self.loop.call_soon(self._resume, self.coro, context=self.context)
        elif getattr(trap, "_asyncio_future_blocking", None):
            trap._asyncio_future_blocking = False
            if trap.get_loop() is not self.loop:
                error = RuntimeError(f"{self!r} awaits {trap!r}, which belongs to another event loop")
                self.loop.call_soon(self._throw, self.coro, error, context=self.context)
                return
            trap.add_done_callback(self._wakeup, context=self.context)
            self._waiter = trap
            if self._must_cancel and trap.cancel(msg=self._cancel_message):
                self._must_cancel = False
        else:
            error = RuntimeError(f"an actor's handler may await asyncio awaitables only; it yielded {trap!r}")
            self.loop.call_soon(self._throw, self.coro, error, context=self.context)

    def _wakeup(self, future: asyncio.Future[Any]) -> None:
        if self._waiter is not future:
            return
        self._waiter = None
        try:
            future.result()
        except BaseException as error:  # thrown into the coroutine
            self._step(error)
        else:
            self._step(None)

    def _resume(self, coro: Coroutine[Any, Any, Any] | None) -> None:
        if coro is self.coro:  # else it was closed meanwhile
            self._step(None)

    def _throw(self, coro: Coroutine[Any, Any, Any] | None, error: BaseException) -> None:
        if coro is self.coro:
            self._step(error)

    def _step(self, error: BaseException | None) -> None:
        """Run the suspended coroutine on to its next wait or its end."""
        coro = self.coro
        assert coro is not None
        if self._must_cancel:
            self._must_cancel = False
            if not isinstance(error, asyncio.CancelledError):
                error = asyncio.CancelledError(*([self._cancel_message] if self._cancel_message else []))
        _enter_task(self.loop, self)  # type: ignore[arg-type]
        try:
            trap = coro.send(None) if error is None else coro.throw(error)
        except StopIteration as stop:
            self.coro = None
            self._finished(stop.value)
        except BaseException as failure:
            self.coro = None
            self._failed(failure)
            if is_of_a_signal(failure):
                raise
        else:
            self._wait_for(trap)
        finally:
            _leave_task(self.loop, self)  # type: ignore[arg-type]

    def _as_current(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function`` in this driver's context and as the current task, whoever that is now."""
        loop = self.loop
        outer: Any = asyncio.current_task(loop)
        if outer is self:
            return self.context.copy().run(function, *args)
        if outer is not None:
            _leave_task(loop, outer)
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            return self.context.run(function, *args)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]
            if outer is not None:
                _enter_task(loop, outer)

    def _close(self) -> None:
        """End the suspended coroutine at once: its ``finally`` blocks run, but may not await."""
        coro, waiter = self.coro, self._waiter
        if coro is None or getattr(coro, "cr_running", False):
            return  # a running one is closed by its own step when that returns
        self.coro = self._waiter = None
        if waiter is not None:
            waiter.remove_done_callback(self._wakeup)
            waiter.cancel()
        try:
            self._as_current(_unwind, coro)
        except BaseException as error:  # a finally block's: the actor ends all the same
            logger.error("%r raised while it was being closed: %s: %s", self, type(error).__name__, error)

    # -- what asyncio and libraries ask of the current task -----------------------------------------

    def cancel(self, msg: Any = None) -> bool:
        """Cancel what the handler waits for, as ``Task.cancel`` (``asyncio.timeout`` calls this)."""
        if self.coro is None:
            return False
        self._cancel_requests += 1
        if self._waiter is not None and self._waiter.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def cancelling(self) -> int:
        return self._cancel_requests

    def uncancel(self) -> int:
        if self._cancel_requests > 0:
            self._cancel_requests -= 1
            if self._cancel_requests == 0:
                self._must_cancel = False
        return self._cancel_requests

    def get_coro(self) -> Coroutine[Any, Any, Any] | None:
        return self.coro

    def get_context(self) -> contextvars.Context:
        return self.context

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def get_name(self) -> str:
        return repr(self)

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return self.coro is None
