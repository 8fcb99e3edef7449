"""What goes into the core (events), what it wants done (effects), and what callers get.

Pure: no clock, no asyncio, no I/O. ``key`` names a child's place: its id, or a number under a dynamic
supervisor. ``serial`` numbers the starts of one supervisor, so that news of an old process is told from
news of its successor. ``ref`` is whatever the shell gave for the process. ``at`` is the time, in seconds.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

from ramure.data import data
from ramure.supervisors.spec import ChildSpec, ChildType

Status = Literal["starting", "running", "stopping", "restarting", "undefined"]


# ------------------------------------------------------------------ timers


@data
class StopTimer:
    """Runs while a child has time to end by itself."""

    key: Hashable
    serial: int


@data
class RetryTimer:
    """Runs until a child is started again."""

    key: Hashable
    serial: int


Timer = StopTimer | RetryTimer


# ------------------------------------------------------------------ requests


@data
class ById:
    """A child by its id."""

    id: Hashable


@data
class ByKey:
    """A child by its place; the shell looked its ref up."""

    key: Hashable
    ref: Any


@data
class Stray:
    """A ref that is none of this supervisor's children; ``alive`` says whether it runs."""

    ref: Any
    alive: bool


Target = ById | ByKey | Stray


@data
class StartChild:
    """Start a child. ``wait``: where there is no room (``max_children``), wait for some."""

    spec: ChildSpec
    wait: bool = False


@data
class TerminateChild:
    target: Target


@data
class RestartChild:
    id: Hashable


@data
class DeleteChild:
    id: Hashable


@data
class RenewChild:
    """Stop a running child and start it again. Not OTP's: there, terminate_child and restart_child."""

    target: Target


@data
class GetChildSpec:
    target: Target


@data
class WhichChildren:
    pass


@data
class CountChildren:
    pass


Request = (
    StartChild | TerminateChild | RestartChild | DeleteChild | RenewChild | GetChildSpec | WhichChildren | CountChildren
)


# ------------------------------------------------------------------ answers


@data
class ChildInfo:
    """One row of which_children. ``ref`` is None unless the child runs or is being stopped; ``id`` is None
    under a dynamic supervisor, as OTP's is ``undefined``."""

    id: Hashable
    ref: Any
    type: ChildType
    status: Status
    incarnation: int


@data
class ChildCounts:
    """The answer of count_children: specifications, live processes, supervisors and workers (live or not)."""

    specs: int
    active: int
    supervisors: int
    workers: int


@data
class ChildStarted:
    """A child was started. ``ref`` is None when its start said that it is not needed (ignore)."""

    ref: Any
    info: Any = None


# ------------------------------------------------------------------ events


@data
class Boot:
    """Start the children that are specified."""

    at: float


@data
class Started:
    key: Hashable
    serial: int
    ref: Any
    at: float
    info: Any = None


@data
class StartIgnored:
    key: Hashable
    serial: int
    at: float


@data
class StartFailed:
    key: Hashable
    serial: int
    reason: Any
    at: float


@data
class Exited:
    """The process of a child's start number ``serial`` has ended."""

    key: Hashable
    serial: int
    reason: Any
    at: float


@data
class TimerFired:
    timer: Timer
    at: float


@data
class Call:
    """A request; its answer is a Reply or Refuse effect with the same ``call``."""

    call: Hashable
    request: Request
    at: float


@data
class Forget:
    """Nobody waits for the answer of ``call`` any more."""

    call: Hashable
    at: float


@data
class Terminate:
    """Stop every child and end with ``reason``."""

    reason: Any
    at: float


Event = Boot | Started | StartIgnored | StartFailed | Exited | TimerFired | Call | Forget | Terminate


# ------------------------------------------------------------------ effects


@data
class Start:
    """Start the child, then give its outcome (Started, StartIgnored, StartFailed) before any other event."""

    key: Hashable
    serial: int
    spec: ChildSpec


@data
class Stop:
    """Send the child an exit signal; ``signal`` is ``"shutdown"`` or ``"kill"``."""

    key: Hashable
    serial: int
    ref: Any
    signal: Literal["shutdown", "kill"]


@data
class SetTimer:
    """Give TimerFired after ``seconds``; with 0 s, after what is in the mailbox now."""

    timer: Timer
    seconds: float


@data
class CancelTimer:
    timer: Timer


@data
class Reply:
    call: Hashable
    answer: Any


@data
class Refuse:
    call: Hashable
    error: Exception


@data
class Ready:
    """Every child that was specified has been started: the supervisor's own start has succeeded."""


@data
class Removed:
    """The child's place is gone; ``ref`` was its last process."""

    key: Hashable
    ref: Any


@data
class End:
    """Every child has ended: the supervisor ends with ``reason``. Always the last effect there is."""

    reason: Any


EventKind = Literal["child_started", "child_ended", "restarting", "restarted", "gave_up"]


@data
class SupervisorEvent:
    """What subscribers are told.

    ``child_started``: by boot or by a call. ``child_ended``: and will not be restarted by itself.
    ``restarting``: it will be, after ``delay`` seconds. ``restarted``: it runs again.
    ``gave_up``: too many restarts; the supervisor stops its children and ends.
    ``reason`` is that of the last end (or failed start), ``incarnation`` the number of the child's starts,
    ``attempt`` that of restarts in a row.
    """

    kind: EventKind
    id: Hashable
    ref: Any
    reason: Any = None
    incarnation: int = 0
    attempt: int = 0
    delay: float = 0.0


@data
class CrashReport:
    """What went wrong with a child, and what was done: see :func:`ramure.supervisors.report.format_report`.

    ``context`` is OTP's: ``child_terminated``, ``start_error``, ``shutdown_error``.
    """

    context: Literal["child_terminated", "start_error", "shutdown_error"]
    id: Hashable
    ref: Any
    reason: Any
    action: str
    incarnation: int
    attempt: int
    restarts: int
    intensity: int
    period: float


Effect = Start | Stop | SetTimer | CancelTimer | Reply | Refuse | Ready | Removed | End | SupervisorEvent | CrashReport
