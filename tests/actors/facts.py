"""Erlang's single facts as tests: what a test returns must be what ``facts.erl`` observed on real Erlang.

A test is ``@fact("the fact's name", what_erlang_does)`` on a function of that name; it runs as an actor of its own, in
virtual time, and returns what it observed, written as the oracle writes terms (``otp_oracle/README.md``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from ramure.actors import Actor, ActorSystem, Ask, Down, Exit, ReceiveTimeout, Ref, Stop, receive
from ramure.errors import ActorDied, AskTimeout, UsageError, WouldDeadlock
from ramure.exits import Crashed
from ramure.testing import run_virtual

Body = Callable[[ActorSystem], Awaitable[Any]]


def test_name(name: str) -> str:
    """The name of the test function for a fact."""
    return "test_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


test_name.__test__ = False  # type: ignore[attr-defined]


def fact(name: str, observed: Any) -> Callable[[Body], Callable[[], None]]:
    """Make the decorated function the test of the fact: it returns what Erlang was ``observed`` to do."""

    def decorate(body: Body) -> Callable[[], None]:
        assert body.__name__ == test_name(name), f"call it {test_name(name)}"

        def test() -> None:
            assert run_virtual(_observe(body)) == observed

        test.facts = {name: observed}  # type: ignore[attr-defined]
        test.__doc__ = name
        return test

    return decorate


async def _observe(body: Body) -> Any:
    async with ActorSystem() as system:

        async def observer() -> None:
            raise Stop(("value", await body(system)))

        reason = await system.spawn(observer).wait()
        match reason:
            case ("value", value):
                return as_json(value)
            case Crashed(exception=error):
                raise error
        return ["died", as_json(reason)]


def as_json(value: Any) -> Any:
    """As the oracle writes terms: pids and references by what they are, tuples as arrays."""
    match value:
        case Exit(sender=sender, reason=reason):
            return ["EXIT", as_json(sender), as_json(reason)]
        case Down(sender=sender, reason=reason):
            return ["DOWN", "ref", "process", as_json(sender), as_json(reason)]
        case Crashed(exception=error):
            return [str(error), "<stack>"]
        case Ref():
            return "pid"
        case tuple():
            return [as_json(part) for part in value]
        case list():
            return {"list": [as_json(part) for part in value]}
    return value


async def next_message(seconds: float = 0.3) -> Any:
    """The next message, or ``"nothing"``."""
    try:
        return await receive(timeout=seconds)
    except ReceiveTimeout:
        return "nothing"


async def dead(system: ActorSystem) -> Ref[Any]:
    ref = system.spawn(idle)
    ref.exit("kill")
    await ref.wait()
    return ref


async def idle() -> None:
    await receive(lambda message: message == "stop")


async def reason_of(system: ActorSystem, body: Callable[[], Awaitable[None]]) -> Any:
    """The reason with which an actor that runs ``body`` ends."""
    return await system.spawn(body).wait()


def raises(action: Callable[[], Any]) -> Any:
    """``["returns", value]``, or the error in Erlang's words."""
    try:
        return ("returns", action())
    except ActorDied:
        return ("error", "noproc")
    except UsageError:
        return ("error", "badarg")


async def call(ref: Ref[Any], request: object, timeout: float = 5.0) -> Any:
    """An ask, told as ``gen_server:call`` tells its outcome."""
    try:
        return ("returns", await ref.ask(request, timeout=timeout))
    except ActorDied as error:
        return ("exit", (error.reason, "call"))
    except AskTimeout:
        return ("exit", ("timeout", "call"))


class Server(Actor):
    """The gen_server of ``facts.erl``: does what its requests say, and reports to ``state`` if that is a ref."""

    async def init(self, state: Any = None, trap: bool = False) -> None:
        self.trap_exit = trap
        self.state = state

    def report(self, message: object) -> None:
        if isinstance(self.state, Ref):
            self.state.tell(message)

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        match request:
            case ("reply", value):
                return value
            case ("sleep", seconds):
                await self.system.clock.sleep(seconds)
                return "late"
            case ("stop", reason, value):
                self.stop(reason)
                return value
            case ("stop", reason):
                raise Stop(reason)
            case "self_call":
                try:
                    await self.ref.ask("x")
                except WouldDeadlock:
                    return "calling_self"
            case "error":
                raise RuntimeError("oops")
            case ("timeout", seconds):
                self.set_timeout(seconds)
                return "ok"

    async def handle_cast(self, message: Any) -> None:
        match message:
            case ("stop", reason):
                self.stop(reason)
            case ("sleep", seconds):
                await self.system.clock.sleep(seconds)
            case ("set", value):
                self.state = value
            case ("note", _):
                self.report(message)

    def handle_info(self, message: Any) -> None:
        match message:
            case Exit(reason=reason):
                self.report(("info_exit", reason))
            case _ if type(message).__name__ == "Timeout":
                self.report("timed_out")

    def terminate(self, reason: object) -> None:
        self.report(("terminate", reason))
