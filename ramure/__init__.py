"""ramure: reliable agent software. Coding agents on machines, supervised as actors, after Erlang/OTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.api import (
        agent,
        agent_process,
        bubble,
        child,
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
        supervise,
        trap_exit,
        wait,
    )
    from ramure.errors import OperationalError, RamureError, UsageError
    from ramure.machines.docker import DockerImage
    from ramure.machines.local import LocalImage
    from ramure.machines.morph import MorphImage
    from ramure.machines.sandbox import SandboxImage
    from ramure.machines.ssh import SSHImage
    from ramure.runtime.control.client import AttachedRun, attach
    from ramure.runtime.errors import (
        AgentDied,
        EndpointError,
        NoSuchEndpoint,
        ProcessCancelled,
        ProcessEnded,
        ProcessFailed,
        ProcessTimeout,
    )
    from ramure.runtime.handle import Agent, ProcessHandle
    from ramure.runtime.machine_handle import MachineHandle
    from ramure.runtime.stream import Event, EventStream
    from ramure.types import ExecResult, ExecutionFailed

__all__ = [
    "Agent",
    "AgentDied",
    "AttachedRun",
    "DockerImage",
    "EndpointError",
    "Event",
    "EventStream",
    "ExecResult",
    "ExecutionFailed",
    "LocalImage",
    "MachineHandle",
    "MorphImage",
    "NoSuchEndpoint",
    "OperationalError",
    "ProcessCancelled",
    "ProcessEnded",
    "ProcessFailed",
    "ProcessHandle",
    "ProcessTimeout",
    "RamureError",
    "SSHImage",
    "SandboxImage",
    "UsageError",
    "agent",
    "agent_process",
    "attach",
    "bubble",
    "child",
    "connect",
    "current_runtime",
    "done",
    "emit",
    "expose",
    "fail",
    "machine",
    "receive",
    "self_ref",
    "spawn",
    "start_task",
    "supervise",
    "trap_exit",
    "wait",
]

_MODULES = {
    "ramure.api": "agent agent_process bubble child connect current_runtime done emit expose fail machine receive self_ref spawn start_task supervise trap_exit wait",
    "ramure.errors": "OperationalError RamureError UsageError",
    "ramure.machines.docker": "DockerImage",
    "ramure.machines.local": "LocalImage",
    "ramure.machines.morph": "MorphImage",
    "ramure.machines.sandbox": "SandboxImage",
    "ramure.machines.ssh": "SSHImage",
    "ramure.runtime.control.client": "AttachedRun attach",
    "ramure.runtime.errors": "AgentDied EndpointError NoSuchEndpoint ProcessCancelled ProcessEnded ProcessFailed ProcessTimeout",
    "ramure.runtime.handle": "Agent ProcessHandle",
    "ramure.runtime.machine_handle": "MachineHandle",
    "ramure.runtime.stream": "Event EventStream",
    "ramure.types": "ExecResult ExecutionFailed",
}
"""Where each name is. A name's module is imported when the name is first used, so ``import ramure`` costs little."""

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
