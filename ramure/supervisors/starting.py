"""How the shells start a child: actor classes, async functions, and start functions of the user's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramure.actors import Ignore, Ref, Starter, StartIgnored, Stop
from ramure.errors import StartFailed
from ramure.exits import Crashed, Phase
from ramure.faults import failure_of
from ramure.supervisors.errors import InvalidSpec
from ramure.supervisors.messages import Started as StartedEvent
from ramure.supervisors.messages import StartFailed as StartFailedEvent
from ramure.supervisors.messages import StartIgnored as StartIgnoredEvent

if TYPE_CHECKING:
    from ramure.actors import ActorSystem
    from ramure.supervisors.messages import Start

__all__ = ["StartWith", "start_child"]

Outcome = StartedEvent | StartIgnoredEvent | StartFailedEvent


@dataclass(frozen=True, slots=True)
class StartWith:
    """A start function, as OTP's: ``ChildSpec("db", StartWith(connect), ...)``.

    ``await function(*args, **kwargs)`` runs in the supervisor and must start a child *linked* to it
    (``system.start_link``, ``options(link=True)``, ``spawn_link``) and return its ref, or ``(ref, info)``;
    ``info`` goes to whoever called start_child. To refuse, it raises any exception, ``Stop(reason)``, or
    ``Ignore()``. The supervisor does nothing else until it returns.
    """

    function: Callable[..., Awaitable[Any]]

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return self.function(*args, **kwargs)


async def start_child(system: ActorSystem, order: Start, clock: Callable[[], float]) -> Outcome:
    """Start the child that the core ordered, linked to the current actor; never raises."""
    key, serial, spec = order.key, order.serial, order.spec
    start = spec.start
    try:
        if isinstance(start, StartWith):
            started = await start(*spec.args, **spec.kwargs)
        else:
            options = Starter(system, link=True, label=spec.id if isinstance(spec.id, str) else None)
            if isinstance(start, type):
                started = await options.start(start, *spec.args, **spec.kwargs)
            else:
                started = options.spawn(start, *spec.args, **spec.kwargs)
    except (Ignore, StartIgnored):
        return StartIgnoredEvent(key, serial, clock())
    except StartFailed as error:
        return StartFailedEvent(key, serial, error.reason, clock())
    except Stop as stop:
        return StartFailedEvent(key, serial, stop.reason, clock())
    except BaseException as error:
        return StartFailedEvent(key, serial, Crashed(failure_of(error), Phase("starting")), clock())
    ref, info = started if isinstance(started, tuple) else (started, None)
    if not isinstance(ref, Ref):
        wrong = InvalidSpec(f"ChildSpec {order.spec.id!r}", "start", started, "its function must return a Ref")
        return StartFailedEvent(key, serial, wrong, clock())
    return StartedEvent(key, serial, ref, clock(), info)
