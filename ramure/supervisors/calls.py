"""The calls of a supervisor's interface, with OTP's answers.

Pure: no clock, no asyncio, no I/O. After OTP's supervisor: handle_call. What reads is answered at once, in
every state. What changes something waits while a start or a group restart is under way, as in OTP, and is
refused while the supervisor is shutting down (where OTP's would not answer).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ramure.supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStopping,
    ChildTemporary,
    NotForDynamic,
    SupervisorError,
    SupervisorStopping,
    TooManyChildren,
)
from ramure.supervisors.messages import (
    ById,
    ByKey,
    Call,
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    Refuse,
    RenewChild,
    Reply,
    RestartChild,
    StartChild,
    Stray,
    Target,
    TerminateChild,
    WhichChildren,
)
from ramure.supervisors.spec import ChildSpec, check_child
from ramure.supervisors.state import Child, State, Waiting, in_order
from ramure.supervisors.turn import Turn

__all__ = ["admit", "answered", "on_call", "read"]


def read(state: State, request: object) -> Any:
    """The answer to a request that only reads, or None for one that changes something. Refusals are answers too."""
    reader = _READERS.get(type(request))
    return None if reader is None else reader(state, request)


def answered(call: Hashable, answer: Any) -> Reply | Refuse:
    """The effect that gives the call what :func:`read` has found."""
    return Refuse(call, answer) if isinstance(answer, SupervisorError) else Reply(call, answer)


def on_call(turn: Turn, event: Call) -> None:
    request = event.request
    if turn.phase in ("stopping", "ended"):
        turn.refuse(event.call, SupervisorStopping())
    elif turn.busy:
        turn.deferred += (event,)
    else:
        _WRITERS[type(request)](turn, event.call, request)


# ------------------------------------------------------------------ reading


def _which_children(state: State, request: WhichChildren) -> tuple[ChildInfo, ...]:
    children, dynamic = in_order(state.children), state.dynamic
    if not dynamic:  # OTP lists the last started first; of a dynamic supervisor's it promises no order
        children.reverse()
    return tuple([_info(child, dynamic) for child in children])


def _info(child: Child, dynamic: bool) -> ChildInfo:
    ref = child.ref if child.status in ("running", "stopping") else None
    return ChildInfo(None if dynamic else child.spec.id, ref, child.spec.type, child.status, child.incarnation)


def _count_children(state: State, request: CountChildren) -> ChildCounts:
    children = list(state.children.values())
    active = sum(child.status in ("running", "stopping") for child in children)
    supervisors = sum(child.spec.type == "supervisor" for child in children)
    specs = 1 if state.dynamic else len(children)
    return ChildCounts(specs, active, supervisors, len(children) - supervisors)


def _get_childspec(state: State, request: GetChildSpec) -> ChildSpec | ChildNotFound:
    child = _find(state, request.target)
    spec = _template(state, request.target) if child is None else child.spec
    return ChildNotFound(_shown(request.target)) if spec is None else spec


def _template(state: State, target: Target) -> ChildSpec | None:
    """What an instance that is gone was started from (as OTP's: a dead pid finds the template)."""
    spec = state.template
    if isinstance(target, ById):
        return spec if spec is not None and target.id == spec.id else None
    return None if isinstance(target, Stray) and target.alive else spec


# ------------------------------------------------------------------ changing


def _start_child(turn: Turn, call: Hashable, request: StartChild) -> None:
    spec = request.spec
    wrong = check_child(spec, turn.flags)
    if wrong is not None:
        turn.refuse(call, wrong)
    elif turn.dynamic:
        _start_dynamic(turn, call, request)
    elif (child := turn.children.get(spec.id)) is None:
        turn.start(Child(spec.id, turn.next_serial, spec), "start_child", call)
    elif child.status in ("running", "stopping"):
        turn.refuse(call, AlreadyStarted(spec.id, child.ref))
    else:
        turn.refuse(call, AlreadyPresent(spec.id))


def _start_dynamic(turn: Turn, call: Hashable, request: StartChild) -> None:
    limit = turn.flags.max_children
    if limit is None or len(turn.children) < limit:
        _start_instance(turn, call, request.spec)
    elif request.wait:
        turn.queue += (Waiting(call, request),)
    else:
        turn.refuse(call, TooManyChildren(request.spec.id, limit))


def _start_instance(turn: Turn, call: Hashable, spec: ChildSpec) -> None:
    turn.start(Child(turn.next_serial, turn.next_serial, spec), "start_child", call)


def admit(turn: Turn) -> bool:
    """Start the first of those that wait for room, if there is some now; False when there is none."""
    limit = turn.flags.max_children
    if limit is None or len(turn.children) >= limit:
        return False
    waiting, turn.queue = turn.queue[0], turn.queue[1:]
    _start_instance(turn, waiting.call, waiting.request.spec)
    return True


def _terminate_child(turn: Turn, call: Hashable, request: TerminateChild) -> None:
    target = request.target
    child = _find(turn, target)
    if turn.dynamic and isinstance(target, ById):
        turn.refuse(call, NotForDynamic(target.id))
    elif child is None:
        # An instance that is gone was terminated, as far as the caller can tell (OTP: ok).
        if turn.dynamic and not (isinstance(target, Stray) and target.alive):
            turn.reply(call, None)
        else:
            turn.refuse(call, ChildNotFound(_shown(target)))
    elif child.status == "running":
        turn.stop(child, (call,))
    elif child.status == "stopping":
        turn.put(child._replace(waiters=(*child.waiters, call)))
    elif child.status == "restarting":
        turn.end_retries(child)
        turn.reply(call, None)
    else:
        turn.reply(call, None)


def _restart_child(turn: Turn, call: Hashable, request: RestartChild) -> None:
    child = _idle(turn, call, request.id)
    if child is not None:
        turn.start(child, "restart_child", call)


def _delete_child(turn: Turn, call: Hashable, request: DeleteChild) -> None:
    child = _idle(turn, call, request.id)
    if child is not None:
        turn.remove(child)
        turn.reply(call, None)


def _renew_child(turn: Turn, call: Hashable, request: RenewChild) -> None:
    child = _find(turn, request.target)
    if child is None:
        turn.refuse(call, ChildNotFound(_shown(request.target)))
    elif child.spec.restart == "temporary":
        turn.refuse(call, ChildTemporary(child.spec.id))
    elif child.status == "running":
        turn.stop(child._replace(again=True), (call,))
    elif child.status == "undefined":
        turn.start(child, "restart_child", call)
    else:
        turn.refuse(call, _WHY_NOT_IDLE[child.status](child.spec.id))


def _idle(turn: Turn, call: Hashable, id: Hashable) -> Child | None:
    """The child of this id, if it has no process and none is planned; else the call is refused."""
    child = turn.children.get(id)
    if turn.dynamic:
        turn.refuse(call, NotForDynamic(id))
    elif child is None:
        turn.refuse(call, ChildNotFound(id))
    elif child.status == "undefined":
        return child
    else:
        turn.refuse(call, _WHY_NOT_IDLE[child.status](id))
    return None


_WHY_NOT_IDLE: Final[dict[str, Callable[[object], SupervisorError]]] = {
    "running": ChildRunning,
    "restarting": ChildRestarting,
    "stopping": ChildStopping,
}


def _find(where: State | Turn, target: Target) -> Child | None:
    match target:
        case ById(id=id) if not where.dynamic:
            return where.children.get(id)
        case ByKey(key=key):
            return where.children.get(key)
        case _:
            return None


def _shown(target: Target) -> Any:
    return target.id if isinstance(target, ById) else target.ref


Reader = Callable[[State, Any], Any]
Handler = Callable[[Turn, Hashable, Any], None]

_READERS: Final[dict[type, Reader]] = {
    WhichChildren: _which_children,
    CountChildren: _count_children,
    GetChildSpec: _get_childspec,
}

_WRITERS: Final[dict[type, Handler]] = {
    StartChild: _start_child,
    TerminateChild: _terminate_child,
    RestartChild: _restart_child,
    DeleteChild: _delete_child,
    RenewChild: _renew_child,
}
