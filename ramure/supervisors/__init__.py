"""Supervisors whose decisions equal OTP's: a pure core (``core.step``) and the actors that carry it out.

``Supervisor`` keeps a fixed set of children running, ``DynamicSupervisor`` any number, started on demand.
What differs from OTP on purpose is listed in ``docs/semantics.md``.
"""

from ramure.supervisors.backoff import Backoff
from ramure.supervisors.dynamic import DynamicSupervisor
from ramure.supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    ChildStopping,
    ChildTemporary,
    FailedToStartChild,
    InvalidSpec,
    NotForDynamic,
    SupervisorError,
    SupervisorStopping,
    TooManyChildren,
)
from ramure.supervisors.messages import ChildCounts, ChildInfo, ChildStarted, StartChild, SupervisorEvent
from ramure.supervisors.shell import Notice
from ramure.supervisors.spec import ChildSpec, Flags
from ramure.supervisors.starting import StartWith
from ramure.supervisors.supervisor import Supervisor
from ramure.supervisors.tasks import Failed, Ok, Task, TaskFailed, TaskSupervisor

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "Backoff",
    "ChildCounts",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "ChildStopping",
    "ChildTemporary",
    "DynamicSupervisor",
    "Failed",
    "FailedToStartChild",
    "Flags",
    "InvalidSpec",
    "NotForDynamic",
    "Notice",
    "Ok",
    "StartChild",
    "StartWith",
    "Supervisor",
    "SupervisorError",
    "SupervisorEvent",
    "SupervisorStopping",
    "Task",
    "TaskFailed",
    "TaskSupervisor",
    "TooManyChildren",
]
