"""ramure: reliable agent software. Coding agents on machines, supervised as actors, after Erlang/OTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.actors.addresses import AmbiguousActor, NoSuchActor
    from ramure.actors.inbox import ReceiveTimeout
    from ramure.actors.starting import StartIgnored, StartTimeout
    from ramure.agents.builtin import NotConnected
    from ramure.agents.errors import (
        AgentEnded,
        AnswerRefused,
        HandlerTimeout,
        Interrupted,
        LaunchFailed,
        MessageTooLarge,
        ModelError,
        NoModel,
        PiExited,
        ResultTooLarge,
        ToolExists,
    )
    from ramure.agents.names import BadAgentName
    from ramure.agents.once import NoSuchArgument
    from ramure.agents.requests import Usage
    from ramure.agents.schema import BadTool, InvalidArguments, UnsupportedParameter
    from ramure.agents.toolchain.errors import SetupBusy, SetupFailed, ToolError, ToolMissing, ToolTooOld
    from ramure.api import (
        AgentProcess,
        agent,
        agent_process,
        bubble,
        connect,
        current_runtime,
        done,
        emit,
        expose,
        fail,
        machine,
        receive,
        self_ref,
        spawn,
        start_task,
        trap_exit,
        wait,
    )
    from ramure.cli.progress import progress
    from ramure.errors import (
        ActorDied,
        AskTimeout,
        ExecutionFailed,
        InternalError,
        MailboxFull,
        NameTaken,
        NoSuchName,
        NotInActor,
        OperationalError,
        RamureError,
        RequestRefused,
        StartFailed,
        StopTimeout,
        UnsupportedPlatform,
        UsageError,
        WouldDeadlock,
    )
    from ramure.executor import NoThread
    from ramure.faults import ExitRaised
    from ramure.machines.docker import DockerImage
    from ramure.machines.errors import (
        CommandRefused,
        CopyFailed,
        ExecTimeout,
        FileRefused,
        HostKeyRefused,
        LinkLost,
        LoginRefused,
        MachineDown,
        MachineError,
        MachineStopped,
        NoSuchFile,
        NotRemoved,
        NotSupported,
        OutsideFolder,
        SpawnFailed,
        UserRefused,
        WorkdirGone,
        WorkNotSaved,
    )
    from ramure.machines.local import LocalImage
    from ramure.machines.morph import MorphImage
    from ramure.machines.sandbox import SandboxImage
    from ramure.machines.ssh import SSHImage
    from ramure.runtime.alarms import DiskFull
    from ramure.runtime.control.client import AttachedRun, attach
    from ramure.runtime.control.errors import AmbiguousRun, NoSuchRun, RequestFailed, RunGone
    from ramure.runtime.each import Each, ItemResult, each
    from ramure.runtime.errors import (
        AgentDied,
        BodyStuck,
        EndpointError,
        NoProcess,
        NoSuchEndpoint,
        NotAwaited,
        ProcessCancelled,
        ProcessEnded,
        ProcessFailed,
        ProcessTimeout,
        Stalled,
        WaitsForItself,
        WrongArguments,
        WrongEvent,
        WrongResult,
    )
    from ramure.runtime.gateway import GatewayUnavailable
    from ramure.runtime.handle import Agent, ProcessHandle
    from ramure.runtime.machine_handle import MachineHandle
    from ramure.runtime.ownership import AgentNameTaken
    from ramure.runtime.run import RunFailed
    from ramure.runtime.stream import Event, EventStream, ListenTimeout, StreamClosed, Subscription
    from ramure.runtime.supervision import ChildrenFailed, GaveUp
    from ramure.runtime.trees import ChildHandle, TreeHandle, child, supervise
    from ramure.supervisors.backoff import Backoff
    from ramure.supervisors.errors import (
        AlreadyPresent,
        AlreadyStarted,
        ChildNotFound,
        ChildRestarting,
        ChildRunning,
        ChildStartFailed,
        ChildStopping,
        ChildTemporary,
        InvalidSpec,
        NotForDynamic,
        SupervisorError,
        SupervisorStopping,
        TooManyChildren,
    )
    from ramure.supervisors.tasks import TaskFailed
    from ramure.types import CommandFailed, ExecResult

__all__ = [
    "ActorDied",
    "Agent",
    "AgentDied",
    "AgentEnded",
    "AgentNameTaken",
    "AgentProcess",
    "AlreadyPresent",
    "AlreadyStarted",
    "AmbiguousActor",
    "AmbiguousRun",
    "AnswerRefused",
    "AskTimeout",
    "AttachedRun",
    "Backoff",
    "BadAgentName",
    "BadTool",
    "BodyStuck",
    "ChildHandle",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildStartFailed",
    "ChildStopping",
    "ChildTemporary",
    "ChildrenFailed",
    "CommandFailed",
    "CommandRefused",
    "CopyFailed",
    "DiskFull",
    "DockerImage",
    "Each",
    "EndpointError",
    "Event",
    "EventStream",
    "ExecResult",
    "ExecTimeout",
    "ExecutionFailed",
    "ExitRaised",
    "FileRefused",
    "GatewayUnavailable",
    "GaveUp",
    "HandlerTimeout",
    "HostKeyRefused",
    "InternalError",
    "Interrupted",
    "InvalidArguments",
    "InvalidSpec",
    "ItemResult",
    "LaunchFailed",
    "LinkLost",
    "ListenTimeout",
    "LocalImage",
    "LoginRefused",
    "MachineDown",
    "MachineError",
    "MachineHandle",
    "MachineStopped",
    "MailboxFull",
    "MessageTooLarge",
    "ModelError",
    "MorphImage",
    "NameTaken",
    "NoModel",
    "NoProcess",
    "NoSuchActor",
    "NoSuchArgument",
    "NoSuchEndpoint",
    "NoSuchFile",
    "NoSuchName",
    "NoSuchRun",
    "NoThread",
    "NotAwaited",
    "NotConnected",
    "NotForDynamic",
    "NotInActor",
    "NotRemoved",
    "NotSupported",
    "OperationalError",
    "OutsideFolder",
    "PiExited",
    "ProcessCancelled",
    "ProcessEnded",
    "ProcessFailed",
    "ProcessHandle",
    "ProcessTimeout",
    "RamureError",
    "ReceiveTimeout",
    "RequestFailed",
    "RequestRefused",
    "ResultTooLarge",
    "RunFailed",
    "RunGone",
    "SSHImage",
    "SandboxImage",
    "SetupBusy",
    "SetupFailed",
    "SpawnFailed",
    "Stalled",
    "StartFailed",
    "StartIgnored",
    "StartTimeout",
    "StopTimeout",
    "StreamClosed",
    "Subscription",
    "SupervisorError",
    "SupervisorStopping",
    "TaskFailed",
    "TooManyChildren",
    "ToolError",
    "ToolExists",
    "ToolMissing",
    "ToolTooOld",
    "TreeHandle",
    "UnsupportedParameter",
    "UnsupportedPlatform",
    "Usage",
    "UsageError",
    "UserRefused",
    "WaitsForItself",
    "WorkNotSaved",
    "WorkdirGone",
    "WouldDeadlock",
    "WrongArguments",
    "WrongEvent",
    "WrongResult",
    "agent",
    "agent_process",
    "attach",
    "bubble",
    "child",
    "connect",
    "current_runtime",
    "done",
    "each",
    "emit",
    "expose",
    "fail",
    "machine",
    "progress",
    "receive",
    "self_ref",
    "spawn",
    "start_task",
    "supervise",
    "trap_exit",
    "wait",
]

_MODULES = {
    "ramure.actors.addresses": "AmbiguousActor NoSuchActor",
    "ramure.actors.inbox": "ReceiveTimeout",
    "ramure.actors.starting": "StartIgnored StartTimeout",
    "ramure.agents.builtin": "NotConnected",
    "ramure.agents.errors": "AgentEnded AnswerRefused HandlerTimeout Interrupted LaunchFailed MessageTooLarge ModelError NoModel PiExited ResultTooLarge ToolExists",
    "ramure.agents.names": "BadAgentName",
    "ramure.agents.once": "NoSuchArgument",
    "ramure.agents.requests": "Usage",
    "ramure.agents.schema": "BadTool InvalidArguments UnsupportedParameter",
    "ramure.agents.toolchain.errors": "SetupBusy SetupFailed ToolError ToolMissing ToolTooOld",
    "ramure.api": "AgentProcess agent agent_process bubble connect current_runtime done emit expose fail machine receive self_ref spawn start_task trap_exit wait",
    "ramure.cli.progress": "progress",
    "ramure.executor": "NoThread",
    "ramure.errors": "ActorDied AskTimeout ExecutionFailed InternalError MailboxFull NameTaken NoSuchName NotInActor OperationalError RamureError RequestRefused StartFailed StopTimeout UnsupportedPlatform UsageError WouldDeadlock",
    "ramure.faults": "ExitRaised",
    "ramure.machines.docker": "DockerImage",
    "ramure.machines.errors": "CommandRefused CopyFailed ExecTimeout FileRefused HostKeyRefused LinkLost LoginRefused MachineDown MachineError MachineStopped NoSuchFile NotRemoved NotSupported OutsideFolder SpawnFailed UserRefused WorkNotSaved WorkdirGone",
    "ramure.machines.local": "LocalImage",
    "ramure.machines.morph": "MorphImage",
    "ramure.machines.sandbox": "SandboxImage",
    "ramure.machines.ssh": "SSHImage",
    "ramure.runtime.alarms": "DiskFull",
    "ramure.runtime.control.client": "AttachedRun attach",
    "ramure.runtime.control.errors": "AmbiguousRun NoSuchRun RequestFailed RunGone",
    "ramure.runtime.each": "Each ItemResult each",
    "ramure.runtime.errors": "AgentDied BodyStuck EndpointError NoProcess NoSuchEndpoint NotAwaited ProcessCancelled ProcessEnded ProcessFailed ProcessTimeout Stalled WaitsForItself WrongArguments WrongEvent WrongResult",
    "ramure.runtime.gateway": "GatewayUnavailable",
    "ramure.runtime.handle": "Agent ProcessHandle",
    "ramure.runtime.machine_handle": "MachineHandle",
    "ramure.runtime.ownership": "AgentNameTaken",
    "ramure.runtime.run": "RunFailed",
    "ramure.runtime.stream": "Event EventStream ListenTimeout StreamClosed Subscription",
    "ramure.runtime.supervision": "ChildrenFailed GaveUp",
    "ramure.runtime.trees": "ChildHandle TreeHandle child supervise",
    "ramure.supervisors.backoff": "Backoff",
    "ramure.supervisors.errors": "AlreadyPresent AlreadyStarted ChildNotFound ChildRestarting ChildRunning ChildStartFailed ChildStopping ChildTemporary InvalidSpec NotForDynamic SupervisorError SupervisorStopping TooManyChildren",
    "ramure.supervisors.tasks": "TaskFailed",
    "ramure.types": "CommandFailed ExecResult",
}
"""The module of each name. It is imported when the name is first used, so ``import ramure`` costs little."""

_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}


if not TYPE_CHECKING:  # a type checker knows the names above, and is to say what is none of them

    def __getattr__(name: str) -> object:
        module = _WHERE.get(name)
        if module is None:
            raise AttributeError(f"module 'ramure' has no attribute {name!r}")
        importlib.import_module("ramure.errors").refuse_windows()
        value: object = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
