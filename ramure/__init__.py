"""ramure: reliable agent software. Coding agents on machines, supervised as actors, after Erlang/OTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.actors._kernel.starting import StartIgnored, StartTimeout
    from ramure.actors.inbox import ReceiveTimeout
    from ramure.actors.observe.addresses import AmbiguousActor, NoSuchActor
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
    from ramure.agents.pi.toolchain.errors import SetupBusy, SetupFailed, ToolError, ToolMissing, ToolTooOld
    from ramure.agents.requests import Usage
    from ramure.agents.tools.builtin import NotConnected
    from ramure.agents.tools.idempotency import NoSuchArgument
    from ramure.agents.tools.schema import BadTool, InvalidArguments, UnsupportedParameter
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
    from ramure.machines.docker.image import DockerImage
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
    from ramure.machines.morph.image import MorphImage
    from ramure.machines.sandbox.image import SandboxImage
    from ramure.machines.ssh.image import SSHImage
    from ramure.runtime.control.client import AttachedRun, attach
    from ramure.runtime.control.errors import AmbiguousRun, NoSuchRun, RequestFailed, RunGone
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
    from ramure.runtime.process.handle import Agent, ProcessHandle
    from ramure.runtime.process.machine_handle import MachineHandle
    from ramure.runtime.process.ownership import AgentNameTaken
    from ramure.runtime.process.stream import Event, EventStream, ListenTimeout, StreamClosed, Subscription
    from ramure.runtime.run.alarms import DiskFull
    from ramure.runtime.run.gateway import GatewayUnavailable
    from ramure.runtime.run.run import RunFailed
    from ramure.runtime.trees.each import Each, ItemResult, each
    from ramure.runtime.trees.handles import ChildHandle, TreeHandle, child, supervise
    from ramure.runtime.trees.supervision import ChildrenFailed, GaveUp
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
    "ramure.actors.observe.addresses": "AmbiguousActor NoSuchActor",
    "ramure.actors.inbox": "ReceiveTimeout",
    "ramure.actors._kernel.starting": "StartIgnored StartTimeout",
    "ramure.agents.tools.builtin": "NotConnected",
    "ramure.agents.errors": "AgentEnded AnswerRefused HandlerTimeout Interrupted LaunchFailed MessageTooLarge ModelError NoModel PiExited ResultTooLarge ToolExists",
    "ramure.agents.names": "BadAgentName",
    "ramure.agents.tools.idempotency": "NoSuchArgument",
    "ramure.agents.requests": "Usage",
    "ramure.agents.tools.schema": "BadTool InvalidArguments UnsupportedParameter",
    "ramure.agents.pi.toolchain.errors": "SetupBusy SetupFailed ToolError ToolMissing ToolTooOld",
    "ramure.api": "AgentProcess agent agent_process bubble connect current_runtime done emit expose fail machine receive self_ref spawn start_task trap_exit wait",
    "ramure.cli.progress": "progress",
    "ramure.executor": "NoThread",
    "ramure.errors": "ActorDied AskTimeout ExecutionFailed InternalError MailboxFull NameTaken NoSuchName NotInActor OperationalError RamureError RequestRefused StartFailed StopTimeout UnsupportedPlatform UsageError WouldDeadlock",
    "ramure.faults": "ExitRaised",
    "ramure.machines.docker.image": "DockerImage",
    "ramure.machines.errors": "CommandRefused CopyFailed ExecTimeout FileRefused HostKeyRefused LinkLost LoginRefused MachineDown MachineError MachineStopped NoSuchFile NotRemoved NotSupported OutsideFolder SpawnFailed UserRefused WorkNotSaved WorkdirGone",
    "ramure.machines.local": "LocalImage",
    "ramure.machines.morph.image": "MorphImage",
    "ramure.machines.sandbox.image": "SandboxImage",
    "ramure.machines.ssh.image": "SSHImage",
    "ramure.runtime.run.alarms": "DiskFull",
    "ramure.runtime.control.client": "AttachedRun attach",
    "ramure.runtime.control.errors": "AmbiguousRun NoSuchRun RequestFailed RunGone",
    "ramure.runtime.trees.each": "Each ItemResult each",
    "ramure.runtime.errors": "AgentDied BodyStuck EndpointError NoProcess NoSuchEndpoint NotAwaited ProcessCancelled ProcessEnded ProcessFailed ProcessTimeout Stalled WaitsForItself WrongArguments WrongEvent WrongResult",
    "ramure.runtime.run.gateway": "GatewayUnavailable",
    "ramure.runtime.process.handle": "Agent ProcessHandle",
    "ramure.runtime.process.machine_handle": "MachineHandle",
    "ramure.runtime.process.ownership": "AgentNameTaken",
    "ramure.runtime.run.run": "RunFailed",
    "ramure.runtime.process.stream": "Event EventStream ListenTimeout StreamClosed Subscription",
    "ramure.runtime.trees.supervision": "ChildrenFailed GaveUp",
    "ramure.runtime.trees.handles": "ChildHandle TreeHandle child supervise",
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
