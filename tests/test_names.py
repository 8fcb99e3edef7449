"""What `from ramure import ...` offers: the verbs, the handles, the images, and every error that a program can meet."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
import pkgutil
from pathlib import Path

import pytest

import ramure
from ramure import (
    AgentDied,
    ChildrenFailed,
    CommandFailed,
    ExecResult,
    ExecutionFailed,
    GaveUp,
    ProcessCancelled,
    ProcessFailed,
    ProcessTimeout,
    RamureError,
    RunFailed,
    Stalled,
)

VERBS = """
    agent agent_process attach bubble child connect current_runtime done each emit expose fail machine progress receive self_ref spawn
    start_task supervise trap_exit wait
"""

TYPES = """
    Agent AgentProcess AttachedRun Backoff ChildHandle DockerImage Each Event EventStream ExecResult ItemResult LocalImage
    MachineHandle MorphImage ProcessHandle SSHImage SandboxImage Subscription TreeHandle Usage
"""

ERRORS = """
    ActorDied AgentDied AgentEnded AgentNameTaken AlreadyPresent AlreadyStarted AmbiguousActor AmbiguousRun AnswerRefused AskTimeout
    BadAgentName BadTool BodyStuck ChildNotFound ChildRestarting ChildRunning ChildStartFailed ChildStopping
    ChildTemporary ChildrenFailed CommandFailed CommandRefused CopyFailed DiskFull EndpointError ExecTimeout ExecutionFailed ExitRaised FileRefused
    GatewayUnavailable GaveUp HandlerTimeout HostKeyRefused InternalError Interrupted InvalidArguments InvalidSpec LaunchFailed LinkLost
    ListenTimeout LoginRefused MachineDown MachineError MachineStopped MailboxFull MessageTooLarge ModelError NameTaken NoModel NoThread
    NoProcess NoSuchActor NoSuchArgument NoSuchEndpoint NoSuchFile NoSuchName NoSuchRun NotAwaited NotConnected NotForDynamic
    NotInActor NotRemoved NotSupported OperationalError OutsideFolder PiExited ProcessCancelled ProcessEnded ProcessFailed ProcessTimeout
    RamureError ReceiveTimeout RequestFailed RequestRefused ResultTooLarge RunFailed RunGone SetupBusy SetupFailed
    SpawnFailed Stalled StartFailed StartIgnored StartTimeout StopTimeout StreamClosed SupervisorError
    SupervisorStopping TaskFailed ToolError ToolExists ToolMissing ToolTooOld TooManyChildren UnsupportedParameter
    UnsupportedPlatform UsageError UserRefused WaitsForItself WorkNotSaved WorkdirGone WouldDeadlock WrongArguments WrongEvent WrongResult
"""

INTERNAL = (
    "ramure.agents.wire",  # between a run and its agents' extensions
    "ramure.machines.git.command",
    "ramure.machines.docker.engine",  # the drivers of the backends: a program gets what machines raise
    "ramure.machines.morph.cloud",
    "ramure.machines.ssh.connection",
    "ramure.machines.tmux.driver",
    "ramure.runtime.control.errors",  # but for what attach() raises: named over the socket, in RequestFailed.kind
    "ramure.testing",  # `from ramure.testing import ...`
    "ramure.cli",
)
"""Modules whose errors no program meets as such."""


def test_the_public_names_are_these() -> None:
    assert set(ramure.__all__) == {*VERBS.split(), *TYPES.split(), *ERRORS.split()}
    assert list(ramure.__all__) == sorted(ramure.__all__)


def test_type_checkers_and_python_see_the_same_names() -> None:
    """The imports that type checkers read, and the table that Python does."""
    tree = ast.parse(Path(ramure.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    for_checkers = {alias.name: node.module for node in imports for alias in node.names}
    for name in ramure.__all__:
        assert for_checkers[name] == ramure._WHERE[name], name
    assert set(ramure._WHERE) == set(ramure.__all__)


def test_every_error_that_a_program_can_meet_is_public() -> None:
    for module in pkgutil.walk_packages(ramure.__path__, "ramure."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    missing = [
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in subclasses(RamureError)
        if kind.__module__.startswith("ramure.")
        and not kind.__module__.startswith(INTERNAL)
        and not kind.__name__.startswith("_")
        and getattr(ramure, kind.__name__, None) is not kind
    ]
    assert missing == []


def subclasses(kind: type) -> set[type]:
    found = set(kind.__subclasses__())
    return found.union(*(subclasses(each) for each in found))


FAILURES = [
    ProcessFailed("no luck"),
    ProcessTimeout("main#1", 3),
    ProcessCancelled("main#1", "shutdown"),
    AgentDied("worker", "killed"),
    Stalled("agent 'worker' ended its turn"),
    RunFailed("killed", "gateway"),
    GaveUp("a", "killed"),
    ChildrenFailed({"a": ValueError("b")}, {"c": 1}),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_every_way_in_which_a_process_or_a_run_fails_is_execution_failed(error: Exception) -> None:
    assert isinstance(error, ExecutionFailed)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)


def test_a_commands_status_is_command_failed_and_no_failure_of_a_process() -> None:
    from ramure.types import ExecResult as FixedPath

    assert FixedPath is ExecResult
    with pytest.raises(CommandFailed, match="`false` exited with status 1") as caught:
        ExecResult("", "", 1).check("false")
    assert not isinstance(caught.value, ExecutionFailed)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), CommandFailed)
