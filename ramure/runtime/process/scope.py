"""Which process the running code belongs to. Travels in a ContextVar, so tasks and threads inherit it."""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import TYPE_CHECKING, Any

from ramure.errors import ActorDied, UsageError
from ramure.runtime.errors import NoProcess, ProcessEnded
from ramure.runtime.process.messages import Unseen

if TYPE_CHECKING:
    from ramure.runtime.process.record import ProcessRecord

__all__ = ["ask_process", "current_process", "enter", "live_process", "process_here", "process_of"]

_process: contextvars.ContextVar[ProcessRecord | None] = contextvars.ContextVar("ramure_process", default=None)


os.register_at_fork(after_in_child=lambda: _process.set(None))  # a forked child is no part of its parent's run


def current_process() -> ProcessRecord | None:
    """The process that this code runs in, alive or ended; None outside of all."""
    return _process.get()


def process_of(context: contextvars.Context) -> ProcessRecord | None:
    """The process that code in ``context`` belongs to."""
    return context.get(_process)


def live_process(what: str) -> ProcessRecord:
    """The process that this code runs in. Raises :class:`NoProcess`, or :class:`ProcessEnded`."""
    record = _process.get()
    if record is None:
        raise NoProcess(what)
    if record.outcome is not None or (record.ref is not None and not record.ref.is_alive()):
        raise ProcessEnded(record.label, what)
    return record


def process_here(what: str) -> ProcessRecord:
    """As :func:`live_process`, for what can be done on the event loop of the process only. Raises UsageError elsewhere:
    a thread that carries the process's context, or another loop in it, would wait for what never comes there."""
    record = live_process(what)
    loop = record.run.system.loop
    if asyncio._get_running_loop() is not loop:
        raise UsageError(
            f"{what} was called on another thread than the event loop of {record.label}; done, fail, emit, "
            "expose, connect, send, interrupt, cancel and stop may be, all else belongs on the loop: have it run there with asyncio.run_coroutine_threadsafe(..., loop), "
            "or start a run of its own in an empty context: contextvars.Context().run(asyncio.run, ...)"
        )
    return record


def enter(record: ProcessRecord) -> contextvars.Token[ProcessRecord | None]:
    """From here on, in this context, code belongs to ``record``."""
    return _process.set(record)


async def ask_process(what: str, request: object) -> Any:
    """Ask the process that this code runs in. Raises :class:`NoProcess`, or :class:`ProcessEnded`."""
    record = process_here(what)
    assert record.ref is not None
    answer = record.ref.request(request)
    try:
        return await answer
    except ActorDied as died:
        if record.ref.is_alive():
            raise  # it is the process's answer
        raise ProcessEnded(record.label, what, died.reason) from died
    except asyncio.CancelledError:
        # A timeout that fires in the turn in which the answer comes wins over it.
        if answer.done() and not answer.cancelled() and record.ref.is_alive():
            error = answer.exception()
            record.ref.tell(Unseen(answer.result() if error is None else error))
        raise
