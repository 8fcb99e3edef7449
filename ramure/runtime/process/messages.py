"""The messages of the runtime's actors. Each verb of the facade becomes one of these (docs/facade.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ramure.runtime.process.endpoints import Endpoint
    from ramure.runtime.process.record import Outcome


@dataclass(frozen=True, slots=True)
class Done:
    """``done(value)``: the first of Done and Fail decides the outcome."""

    value: Any


@dataclass(frozen=True, slots=True)
class Fail:
    """``fail(reason)``."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Wait:
    """``await wait()``: answered with the ``done`` value, or the error."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Whoever asked was cancelled when ``answer``, a value or an error, was there already, and has not seen it."""

    answer: Any


@dataclass(frozen=True, slots=True)
class Expose:
    """``expose(function)``."""

    name: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class CallEndpoint:
    """``handle.call(name, **arguments)``: answered with what the endpoint returned. ``texts``: arguments as a person has
    written them, for ``ramure call``."""

    name: str
    arguments: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartAgent:
    """``await agent(name, ...)``: answered with the agent's record when it is ready."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartMachine:
    """``await machine(image)``: answered with the machine's ref when it runs."""

    image: Any


@dataclass(frozen=True, slots=True)
class Cancel:
    """``handle.cancel()``, or the cancellation of a caller: end as ``cancelled``."""

    reason: object


@dataclass(frozen=True, slots=True)
class TrapExit:
    """``trap_exit(on)``: exit signals are messages for ``receive``, or end the process."""

    on: bool


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The process's function has returned or raised."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Unawaited:
    """An eager verb that the process's code has called failed, and nobody can await it any more."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """The process's own ``timeout=`` is up."""

    seconds: float
