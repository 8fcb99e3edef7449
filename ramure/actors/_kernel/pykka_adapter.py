"""Threaded actors, and the one module that knows pykka.

The true actor is a cell on the event loop, like every other; what it does *in* a message is done by a
pykka actor, :class:`Worker`, in a daemon thread, and comes back with ``call_soon_threadsafe``. So the
rules about mailboxes, links, monitors, names, exits and stops are the kernel's, whoever's class it is.

A user's own ``pykka.ThreadingActor`` runs unmodified: its ``__init__``, ``on_start``, ``on_receive``,
methods, ``on_stop`` and ``on_failure`` are called in the worker's thread. Its own ``actor_ref`` leads into
the cell's mailbox, so plain pykka code can go on using that. It is not in pykka's process-wide registry.
``tests/actors/test_pykka_contract.py`` pins the private pieces of pykka that this relies on.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

import pykka
from pykka import messages as pykka_messages

from ramure.actors._kernel.server import ServerCell
from ramure.actors.messages import Ask, Continue, Exit, Stop, StopRequest
from ramure.actors.threaded import ThreadedActor
from ramure.errors import UsageError
from ramure.exits import NORMAL, Crashed, format_exit
from ramure.masking import get_logger
from ramure.tracebacks import fold

if TYPE_CHECKING:
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["PykkaCell", "ThreadedCell", "cell_class_for"]

logger: logging.Logger = get_logger("ramure.actors")


def cell_class_for(actor_class: type) -> type[ThreadedCell]:
    """Which cell runs a class that is no event-loop ``Actor``. Raises :class:`UsageError` if none does."""
    if isinstance(actor_class, type):
        if issubclass(actor_class, ThreadedActor):
            return ThreadedCell
        if issubclass(actor_class, pykka.ThreadingActor):
            return PykkaCell
    raise UsageError(f"{actor_class!r} is no actor class: subclass Actor, ThreadedActor or pykka.ThreadingActor")


# -- the thread -----------------------------------------------------------------------------------------


class Job:
    """One call to make in the worker's thread; the result goes back to the cell, on the loop."""

    __slots__ = ("args", "cell", "function", "future", "kwargs")

    def __init__(self, cell: ThreadedCell, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.cell: ThreadedCell = cell
        self.function: Callable[..., Any] = function
        self.args: Any = args
        self.kwargs: Any = kwargs
        self.future: asyncio.Future[tuple[Any, BaseException | None]] = cell.loop.create_future()

    def run(self) -> None:
        value, failure = None, None
        if not self.cell.dead:  # else it was killed before this job's turn came
            try:
                value = self.function(*self.args, **self.kwargs)
                if inspect.iscoroutine(value):
                    value.close()
                    raise UsageError(f"{self.function!r} runs in a thread: make it a plain `def`, not `async def`")
            except BaseException as error:  # also SystemExit; the loop's side judges it
                value, failure = None, error
        post(self.cell, self.cell.job_done, self, value, failure)


def post(cell: ThreadedCell, function: Callable[..., object], *args: Any) -> None:
    """Call ``function`` on the cell's loop; if that is closed, its actors are dead and nobody waits."""
    try:
        cell.loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        logger.debug("%s: the event loop is closed; its thread's result is dropped", cell.label)


class Worker(pykka.ThreadingActor):
    """Runs one actor's jobs, in its own daemon thread."""

    use_daemon_thread = True

    def __init__(self, cell: ThreadedCell) -> None:
        super().__init__()
        self._cell = cell
        self._context = cell.context.copy()  # the loop may be in the cell's own at the same time

    def on_start(self) -> None:
        thread = threading.current_thread()
        thread.name = self._cell.label
        self._cell.thread = thread

    def on_receive(self, message: Job) -> None:
        self._context.run(message.run)

    def on_stop(self) -> None:
        post(self._cell, self._cell.system.threads.ended, self._cell)


# -- actors of ThreadedActor classes ----------------------------------------------------------------------


class Bridge:
    """Stands on the loop for the object in the thread: the same callbacks, as coroutines."""

    _cell: ThreadedCell

    def init(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self._cell.create(args, kwargs)

    def handle_call(self, request: Any, caller: Ask) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object.handle_call, request, caller)

    def handle_cast(self, message: Any) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object.handle_cast, message)

    def handle_info(self, message: Any) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object.handle_info, message)

    def handle_continue(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object.handle_continue, value)

    def terminate(self, reason: object) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object.terminate, reason)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._cell.object, name)
        return lambda *args, **kwargs: self._cell.perform(method, *args, **kwargs)


class ThreadedCell(ServerCell):
    """The cell of a :class:`~ramure.actors.ThreadedActor`."""

    bridge_class: type[Bridge] = Bridge
    object: Any = None
    worker: pykka.ActorRef[Worker] | None = None
    thread: threading.Thread | None = None
    job: Job | None = None
    owns: bool = False
    """The object may hold resources: from the start of its ``__init__`` to the end of ``terminate``."""

    def __init__(self, system: ActorSystem, number: int, context: contextvars.Context, actor_class: type[Any]) -> None:
        super().__init__(system, number, context, self.bridge_class)  # type: ignore[arg-type]
        self.actor_class = actor_class

    def check_method(self, name: str) -> None:
        method = None if name.startswith("_") else inspect.getattr_static(self.actor_class, name, None)
        if not inspect.isfunction(method) or hasattr(ThreadedActor, name):
            public = sorted(
                n
                for n, _ in inspect.getmembers_static(self.actor_class, inspect.isfunction)
                if n[0] != "_" and not hasattr(ThreadedActor, n)
            )
            raise AttributeError(f"{self.kind}.{name} is not one of its public methods: {', '.join(public) or 'none'}")

    def continue_with(self, value: object) -> None:
        self.deliver_first(Continue(value))

    def in_own_thread(self) -> bool:
        return threading.current_thread() is self.thread

    # -- calls into the thread ----------------------------------------------------------------------------

    async def create(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the object in a new thread, and call its ``init``."""
        self.worker = Worker.start(self)
        self.system.threads.started(self, self.loop)
        pykka.ActorRegistry.unregister(self.worker)  # process-wide: not the place for one system's threads
        self.owns = True
        await self.perform(self.construct, args, kwargs)

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """In the thread: ``__init__`` and ``init``."""
        made: Any = self.actor_class.__new__(self.actor_class)
        made._cell = self
        self.object = made
        self.object.__init__()
        self.object.init(*args, **kwargs)
        if self.dead:  # on_kill came too early to find what init has made since
            self._on_kill(self.object.on_kill)

    async def perform(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` in the actor's thread and return what it returns, or raise what it raises."""
        assert self.worker is not None
        self.job = job = Job(self, function, args, kwargs)
        self.worker.tell(job)
        value, failure = await job.future
        if failure is None:
            return value
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            raise Stop(Crashed(failure, self.doing()))  # the actor's end, not the program's
        raise failure

    def job_done(self, job: Job, value: Any, failure: BaseException | None) -> None:
        """On the loop: the thread has done ``job``."""
        self.job = None
        if self.phase == "stopping" or (self.phase == "starting" and failure is not None):
            self.owns = False
        if self.dead:
            self.system.threads.returned(self)
            self._let_thread_end()
        elif not job.future.done():
            job.future.set_result((value, failure))

    # -- the end ------------------------------------------------------------------------------------------

    def _released(self) -> None:
        super()._released()
        if self.owns:
            self.owns = False
            hook = getattr(self.object, "on_kill", None)
            if hook is not None:
                self.system.threads.run(f"on_kill of {self.label}", self.loop, self._on_kill, hook)
        if self.worker is None:
            return
        if self.job is not None:
            self.system.threads.abandon(self, self.doing())
        else:
            self._let_thread_end()

    def _let_thread_end(self) -> None:
        assert self.worker is not None
        self.object = None
        self.worker.stop(block=False)

    def _on_kill(self, hook: Callable[[], object]) -> None:
        try:
            hook()
        except BaseException as error:
            logger.error("on_kill of %s: %s", self.label, format_exit(error), exc_info=fold(error))


# -- actors of a user's own pykka classes -------------------------------------------------------------------


class PykkaBridge(Bridge):
    """Turns what the kernel calls into what a pykka actor expects."""

    _cell: PykkaCell

    def handle_call(self, request: Any, caller: Ask) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.answer, request, caller)

    def handle_cast(self, message: Any) -> Coroutine[Any, Any, Any]:
        return self.handle_info(message)

    def handle_info(self, message: Any) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.object._handle_receive, message)

    def terminate(self, reason: object) -> Coroutine[Any, Any, Any]:
        return self._cell.perform(self._cell.finish, reason)


class PykkaCell(ThreadedCell):
    """The cell of a user's own ``pykka.ThreadingActor``.

    pykka knows one way to end an actor from outside, with ``on_stop``. So a ``shutdown`` from its parent
    or its system is an orderly stop here, in its place in the queue, as for an actor that traps exits;
    any other exit signal acts at once, as on one that does not.
    """

    bridge_class: type[Bridge] = PykkaBridge

    def __init__(self, system: ActorSystem, number: int, context: contextvars.Context, actor_class: type[Any]) -> None:
        super().__init__(system, number, context, actor_class)
        self.trap_exit = True

    def deliver(self, message: Any) -> None:
        if type(message) is not Exit or self.dead:
            super().deliver(message)
        elif isinstance(message.reason, str) and message.reason == NORMAL:
            return
        elif self._from_parent(message):
            super().deliver(message)
        else:
            self.die(message.reason)

    def check_method(self, name: str) -> None:
        """Attributes of pykka actors are known in their thread only."""

    def proxy(self, timeout: float | None) -> PykkaProxy:
        return PykkaProxy(self.ref, timeout)

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        made: Any = self.actor_class.__new__(self.actor_class, *args, **kwargs)
        inbox = Inbox(self)
        made._create_actor_inbox = lambda: inbox
        self.object = made
        made.__init__(*args, **kwargs)
        if getattr(made, "_actor_ref", None) is None:
            raise UsageError(f"{self.kind}.__init__ must call super().__init__()")
        made.on_start()
        if self.dead:
            self.finish(self.reason)

    def answer(self, request: Any, caller: Ask) -> Any:
        """In the thread: an ask. One for an attribute that is not there is refused; the actor lives."""
        if isinstance(request, (pykka_messages.ProxyCall, pykka_messages.ProxyGetAttr)):
            try:
                check_path(self.object, request.attr_path)
            except AttributeError as error:
                caller.fail(error)
                return None
        return self.object._handle_receive(request)

    def finish(self, reason: object) -> None:
        """In the thread: the end."""
        self.object.actor_stopped.set()
        if isinstance(reason, Crashed):
            error = reason.exception
            self.object.on_failure(type(error), error, error.__traceback__)
        else:
            self.object.on_stop()

    def _released(self) -> None:
        stopped: threading.Event | None = getattr(self.object, "actor_stopped", None)
        if stopped is not None:
            stopped.set()  # a handler that is still running may look at it
        super()._released()


def check_path(root: object, path: Any) -> None:
    """Raise AttributeError unless a proxy may go along ``path``: through public, traversable attributes."""
    here: Any = root
    for name in path:
        if here is not root and not (hasattr(here, "_pykka_traversable") or hasattr(here, "pykka_traversable")):
            raise AttributeError(f"{here!r} is not marked with pykka.traversable, so it is not for {name!r}")
        if name.startswith("_"):
            raise AttributeError(f"{name!r} is private")
        here = getattr(here, name)


class PykkaProxy:
    """``await proxy.method(...)`` calls, ``await proxy.attribute`` reads, in the actor's thread."""

    def __init__(self, ref: Ref[Any], timeout: float | None, path: tuple[str, ...] = ()) -> None:
        self._ref = ref
        self._timeout = timeout
        self._path = path

    def __getattr__(self, name: str) -> PykkaProxy:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} is private to {self._ref!r}")
        return PykkaProxy(self._ref, self._timeout, (*self._path, name))

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise UsageError(
                f"setting {name!r} cannot be awaited: use `await ref.ask(pykka.messages.ProxySetAttr(({name!r},), value))`"
            )
        super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self._ref.ask(pykka_messages.ProxyCall(self._path, args, kwargs), timeout=self._timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._ref.ask(pykka_messages.ProxyGetAttr(self._path), timeout=self._timeout).__await__()

    def __repr__(self) -> str:
        return f"<proxy of {'.'.join((repr(self._ref), *self._path))}>"


class Inbox:
    """Where the actor's own ``actor_ref`` puts messages: they go to the cell's mailbox."""

    def __init__(self, cell: PykkaCell) -> None:
        self._cell = cell

    def put(self, envelope: Any, /) -> None:
        try:
            self._cell.loop.call_soon_threadsafe(self._arrive, envelope.message, envelope.reply_to)
        except RuntimeError:  # the loop is closed
            if envelope.reply_to is not None:
                self._refuse(envelope.reply_to)

    def get(self) -> Any:
        raise UsageError("the system reads the mailbox of an actor that it started")

    def empty(self) -> bool:
        return not self._cell.queue

    def _arrive(self, message: Any, reply: pykka.Future[Any] | None) -> None:
        cell = self._cell
        if isinstance(message, pykka_messages._ActorStop):
            if reply is not None:
                if cell.dead:
                    self._refuse(reply)
                    return
                cell.end_future().add_done_callback(lambda ended: reply.set(None))
            cell.deliver(StopRequest(NORMAL))
        elif reply is None:
            cell.deliver_from_outside(message)
        else:
            future: asyncio.Future[Any] = cell.loop.create_future()
            future.add_done_callback(lambda done: _answer(reply, done))
            cell.deliver(Ask(cell, message, future, None))

    def _refuse(self, reply: pykka.Future[Any]) -> None:
        error = pykka.ActorDeadError(f"{self._cell.label} is dead")
        reply.set_exception((type(error), error, None))


def _answer(reply: pykka.Future[Any], done: asyncio.Future[Any]) -> None:
    error = done.exception()
    if error is None:
        reply.set(done.result())
    else:
        reply.set_exception((type(error), error, error.__traceback__))
