"""The tools that a run gives an agent, and their calls that are under way."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from ramure.actors import Ref
from ramure.agents.delivery import BeginCall
from ramure.agents.errors import HandlerTimeout, ResultTooLarge
from ramure.agents.requests import AddTool
from ramure.agents.tools.idempotency import Done
from ramure.agents.tools.results import Picture, Result
from ramure.agents.tools.schema import InvalidArguments
from ramure.agents.wire import fits
from ramure.exits import format_exit
from ramure.faults import failure_of

__all__ = ["CANCELLED", "Calls", "OwnTask", "handled_agent", "set_handled_agent"]

CANCELLED: Final = "The call was cancelled."
"""What the model is told of a call that it, or a person, has given up."""

_handler: Final[contextvars.ContextVar[tuple[Ref[Any], object] | None]] = contextvars.ContextVar(
    "ramure_handler", default=None
)


def handled_agent() -> Ref[Any] | None:
    """The agent that waits for this code: it made the call whose handler this is. None in tasks that a handler made."""
    found = _handler.get()
    return None if found is None or found[1] is not asyncio.current_task() else found[0]


def set_handled_agent(agent: Ref[Any]) -> None:
    """From now on the current task is a handler that ``agent`` waits for."""
    _handler.set((agent, asyncio.current_task()))


class OwnTask(Protocol):
    """Starts a task of the agent's actor."""

    def __call__(
        self, coroutine: Coroutine[Any, Any, Any], name: str | None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]: ...


class Calls:
    """``done(call_id, ok, text, by, pictures)`` receives the outcome of each call, and the call whose result it is;
    ``failed(tool, error)`` what went wrong in a handler."""

    def __init__(
        self,
        address: str,
        own_task: OwnTask,
        done: Callable[[str, bool, str, str, tuple[Picture, ...]], None],
        failed: Callable[[str, BaseException], None],
        agent: Ref[Any],
    ) -> None:
        self.tools: dict[str, AddTool] = {}
        self._address = address
        self._agent = agent
        self._own_task = own_task
        self._done = done
        self._failed = failed
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> list[str]:
        """The ids of the calls under way."""
        return list(self._running)

    def start(self, call: BeginCall) -> None:
        """Run the handler. Whatever it does, the model gets an answer."""
        entry = self.tools.get(call.name)
        if entry is None:
            have = ", ".join(sorted(self.tools)) or "none"
            self._done(call.call_id, False, f"There is no tool {call.name!r}; the tools: {have}.", call.call_id, ())
            return
        name = f"tool {call.name} of {self._address}"
        self._running[call.call_id] = self._own_task(self._run(entry, call), name, entry.context.copy())

    def cancel(self, call_id: str) -> bool:
        """The model no longer waits for the call; False if it does not run."""
        task = self._running.get(call_id)
        if task is None or not task.cancel():
            return False
        task.add_done_callback(lambda _: self._cancelled(call_id))  # before its first step it would not say so itself
        return True

    def _cancelled(self, call_id: str) -> None:
        if self._running.pop(call_id, None) is not None:
            self._done(call_id, False, CANCELLED, call_id, ())

    async def _run(self, entry: AddTool, call: BeginCall) -> None:
        try:
            ok, done = await (self._outcome(entry, call) if entry.timeout is None else self._timed(entry, call))
        except asyncio.CancelledError:  # by the model, a person, or the agent's end
            ok, done = False, Done(CANCELLED, call.call_id)
        if not ok and not fits(done.text):  # an error's text can be as large as a result's
            ok, done = False, Done(format_exit(ResultTooLarge(call.name, len(done.text))), call.call_id)
        self._running.pop(call.call_id, None)
        self._done(call.call_id, ok, done.text, done.by, done.pictures)

    async def _outcome(self, entry: AddTool, call: BeginCall) -> tuple[bool, Done]:
        set_handled_agent(self._agent)
        try:
            if entry.once is None:
                result = await self._handled(entry, call)
                return True, Done(result.text, call.call_id, result.pictures)
            return True, await entry.once.call(call.call_id, call.arguments, lambda: self._handled(entry, call))
        except InvalidArguments as error:
            return False, Done(f"Bad arguments: {error}", call.call_id)
        except BaseException as error:
            failure = failure_of(error)
            self._failed(call.name, failure)
            return False, Done(format_exit(failure), call.call_id)

    async def _handled(self, entry: AddTool, call: BeginCall) -> Result:
        result = await entry.tool.call(call.arguments)
        if not fits("".join([result.text, *(picture.data for picture in result.pictures)])):
            raise ResultTooLarge(call.name, result.size)
        return result

    async def _timed(self, entry: AddTool, call: BeginCall) -> tuple[bool, Done]:
        """A task of its own: the model does not wait for a handler that does not let itself be cancelled either."""
        assert entry.timeout is not None
        handler = self._own_task(self._outcome(entry, call), f"handler of {call.name}", contextvars.copy_context())
        try:
            await asyncio.wait([handler], timeout=entry.timeout)
            if handler.done():
                outcome: tuple[bool, Done] = handler.result()
                return outcome
            error = HandlerTimeout(call.name, entry.timeout)
            self._failed(call.name, error)
            return False, Done(str(error), call.call_id)
        finally:
            handler.cancel()
