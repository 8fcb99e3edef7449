"""What carries the context of a process, and so may act in it: tasks, timers, sockets, threads.

Python has no list of them. Read here are asyncio's own fields, the same since Python 3.8: ``Task._fut_waiter`` and
``_callbacks``, ``Handle._context``, and the loop's ``_scheduled``, ``_ready`` and ``_selector``. A loop without them (uvloop)
cannot be looked into, and its processes are never said to be stalled: see :func:`can_look`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from ramure.actors._kernel.cell import cell_of
from ramure.actors.timers import Timer
from ramure.executor import Threads
from ramure.runtime.process.messages import Timeout
from ramure.runtime.process.scope import process_of

if TYPE_CHECKING:
    from ramure.runtime.process.record import ProcessRecord
    from ramure.runtime.run.run import Run

__all__ = ["OURS", "Carriers", "Frontier", "can_look", "owner_of", "owner_of_task"]

OURS: Final[weakref.WeakSet[asyncio.Task[Any]]] = weakref.WeakSet()
"""Tasks of runs that no actor owns: they are not the program's."""

HOME: Final = str(Path(__file__).parent.parent.parent)
NOT_THE_PROGRAM: Final = (HOME, "pykka", "paramiko", "websockets", "asyncio", "libtmux")
"""Where the outermost code of threads stands that act for nobody but ramure."""


def can_look(loop: asyncio.AbstractEventLoop) -> bool:
    """True where the loop is asyncio's own, whose timers and sockets can be read."""
    return isinstance(getattr(loop, "_scheduled", None), list)


def context_of(task: asyncio.Task[Any]) -> contextvars.Context | None:
    """The context that a task runs in. Python 3.11 does not tell, but its garbage collector does."""
    if hasattr(task, "get_context"):
        context: contextvars.Context = task.get_context()
        return context
    return next((each for each in gc.get_referents(task) if isinstance(each, contextvars.Context)), None)


def owner_of(context: contextvars.Context | None) -> ProcessRecord | None:
    """The process whose own code ``context`` is of: not one of its agents or machines, which are in its scope too."""
    record = None if context is None else process_of(context)
    if context is None or record is None or record.ref is None:
        return None
    return record if cell_of(context) is record.ref._cell else None


def owner_of_task(task: asyncio.Task[Any]) -> ProcessRecord | None:
    """The process whose own code created the task."""
    return owner_of(context_of(task))


class Frontier:
    """Where tasks stand: in waits of ours, which ``waits`` has by the id of the future, or in tasks that are, or outside.

    A task that waits for other tasks (``gather``, ``TaskGroup``, ``asyncio.wait``, ``shield``) waits where they do.
    """

    def __init__(self, waits: dict[int, Any]) -> None:
        self._waits = waits

    def of(self, task: asyncio.Task[Any], others: list[asyncio.Task[Any]]) -> list[Any] | None:
        """The waits of ours that ``task`` is in, by itself or through ``others``; None where it is outside of them."""
        return self._of(task, others, set())

    def _of(self, task: asyncio.Task[Any], others: list[asyncio.Task[Any]], seen: set[int]) -> list[Any] | None:
        if task.done() or task in OURS:
            return []
        future = getattr(task, "_fut_waiter", None)
        if future is None:  # it runs, or is about to
            return None
        known = self._waits.get(id(future))
        if known is not None:
            return [known]
        if id(task) in seen:
            return []
        seen.add(id(task))
        awaited = [future] if isinstance(future, asyncio.Task) else []
        awaited += [each for each in others if each is not task and not each.done() and _leads_to(each, future)]
        if not awaited:
            return None
        found: list[Any] = []
        for each in awaited:
            more = self._of(each, others, seen)
            if more is None:
                return None
            found += more
        return found


def _leads_to(task: asyncio.Task[Any], future: object) -> bool:
    """True where the end of ``task`` is what ``future`` waits for, or a part of that."""
    seen: set[int] = set()
    ahead: list[asyncio.Future[Any]] = [task]
    while ahead and len(seen) < 64:
        for callback, *_ in getattr(ahead.pop(), "_callbacks", None) or ():
            for found in _within(callback):
                if found is future:
                    return True
                if isinstance(found, asyncio.Future) and not isinstance(found, asyncio.Task) and id(found) not in seen:
                    seen.add(id(found))
                    ahead.append(found)
    return False


def _within(thing: object, depth: int = 3) -> Iterator[object]:
    """What a callable holds, so many steps deep: its object, its cells, its arguments."""
    yield thing
    if depth == 0:
        return
    inner: list[object] = []
    match thing:
        case functools.partial():
            inner = [thing.func, *thing.args, *thing.keywords.values()]
        case MethodType():
            inner = [thing.__self__, thing.__func__]
        case FunctionType():
            for cell in thing.__closure__ or ():
                try:
                    inner.append(cell.cell_contents)
                except ValueError:  # not filled yet
                    continue
        case tuple() | list():
            inner = list(thing)[:16]
        case asyncio.Future() | contextvars.Context() | type() | dict() | str() | bytes() | int():
            inner = []
        case _:
            if isinstance(getattr(thing, "__self__", None), contextvars.Context):
                inner = [thing.__self__]  # type: ignore[attr-defined]
            else:
                inner = list(getattr(thing, "__dict__", {}).values())[:32]
    for each in inner:
        yield from _within(each, depth - 1)


@dataclass(slots=True)
class Carriers:
    """All that carries a process's context at one moment, by process."""

    tasks: dict[ProcessRecord, list[asyncio.Task[Any]]] = field(default_factory=dict)
    others: dict[ProcessRecord, list[str]] = field(default_factory=dict)
    """Timers, sockets and threads, in words."""
    outside: list[asyncio.Task[Any]] = field(default_factory=list)
    """Tasks of the program that belong to no process."""
    strangers: list[str] = field(default_factory=list)
    """Threads of the program that carry no context."""
    due: float | None = None
    """When the first of the timers is due (the loop's time)."""
    silent: bool = False
    """True where a socket or a thread is among them: nothing tells when that ends."""

    @classmethod
    def of(cls, run: Run, *, threads: bool) -> Carriers:
        """Look at the loop of ``run``, which costs some microseconds for each task and timer, and at the ``threads``."""
        found = cls()
        found._look_at_tasks(run)
        found._look_at_timers(run.system.loop)
        found._look_at_sockets(run.system.loop)
        if threads:
            found._look_at_threads()
        return found

    def _note(self, record: ProcessRecord, what: str) -> None:
        self.others.setdefault(record, []).append(what)

    def _look_at_tasks(self, run: Run) -> None:
        for process in run.processes.values():
            if process.outcome is None and process.work:
                self.tasks[process] = [task for task in process.work if not task.done()]
        for task in asyncio.all_tasks(run.system.loop) - run.system.tasks:
            context = context_of(task)
            record = owner_of(context)
            if record is not None:
                if task not in record.work:
                    self.tasks.setdefault(record, []).append(task)
            elif task not in OURS and (context is None or (cell_of(context) is None and process_of(context) is None)):
                self.outside.append(task)

    def _look_at_timers(self, loop: Any) -> None:
        for handle in loop._scheduled:
            record = None if handle.cancelled() else owner_of(handle._context)
            if record is None or _is_own_timeout(handle):
                continue
            self._note(record, "a timer")
            self.due = handle.when() if self.due is None else min(self.due, handle.when())
        for handle in list(getattr(loop, "_ready", ())):
            if (record := owner_of(getattr(handle, "_context", None))) is not None and not handle.cancelled():
                self._note(record, "a callback that is due")
                self.due = loop.time()

    def _look_at_sockets(self, loop: Any) -> None:
        selector = getattr(loop, "_selector", None)
        handles = [] if selector is None else [h for key in selector.get_map().values() for h in _handles(key.data)]
        handles += list(getattr(loop, "_signal_handlers", {}).values())
        for handle in handles:
            record = owner_of(getattr(handle, "_context", None))
            if record is not None:
                self._note(record, "a socket, a pipe or a signal")
                self.silent = True

    def _look_at_threads(self) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if frame is None or thread is threading.current_thread() or thread is threading.main_thread():
                continue
            stack = list(_stack(frame))
            if type(getattr(getattr(thread, "_target", None), "__self__", None)) is Threads:
                continue  # ramure's own calls, made for a process: they decide nothing
            records = {record for record in map(owner_of, _contexts(thread, stack)) if record is not None}
            for record in records:
                self._note(record, f"thread {thread.name}")
                self.silent = True
            if not records and not _is_idle(stack) and not _is_ours(thread, stack):
                self.strangers.append(f"thread {thread.name}")


def _is_own_timeout(handle: asyncio.TimerHandle) -> bool:
    timer = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return isinstance(timer, Timer) and isinstance(timer._message, Timeout)


def _handles(data: object) -> list[Any]:
    return [each for each in data if each is not None] if isinstance(data, tuple) else []


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost frame outwards."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _contexts(thread: threading.Thread, stack: list[FrameType]) -> Iterator[contextvars.Context]:
    """The contexts that a thread may run in: those that it was started with, and those its frames hold."""
    places: list[object] = [
        getattr(thread, "_target", None),
        getattr(thread, "_args", ()),
        getattr(thread, "_kwargs", {}),
    ]
    for frame in stack[-20:]:
        places += list(frame.f_locals.values())[:32]
    for place in places:
        for found in _within(list(place.values()) if isinstance(place, dict) else place):
            if isinstance(found, contextvars.Context):
                yield found
            elif isinstance(getattr(found, "__self__", None), contextvars.Context):
                yield found.__self__  # type: ignore[attr-defined]


def _is_idle(stack: list[FrameType]) -> bool:
    """True for a worker of a thread pool that waits for its next job."""
    return stack[0].f_code.co_name == "_worker" and stack[0].f_code.co_filename.endswith("thread.py")


def _is_ours(thread: threading.Thread, stack: list[FrameType]) -> bool:
    """True for a thread of ramure, or of a library for it."""
    outermost = [frame.f_code.co_filename for frame in stack if not frame.f_code.co_filename.endswith("threading.py")]
    where = outermost[-1] if outermost else ""
    return (
        not where
        or type(thread).__module__.startswith("paramiko")
        or any(where.startswith(part) if part == HOME else f"/{part}/" in where for part in NOT_THE_PROGRAM)
    )
