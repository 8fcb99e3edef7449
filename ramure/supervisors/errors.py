"""What a supervisor answers when it cannot do what it was asked, and what it says of a bad specification.

Pure: no clock, no asyncio, no I/O. The answers are those of OTP's supervisor, each a class of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ramure.errors import RequestRefused, UsageError
from ramure.exits import format_exit

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildStartFailed",
    "ChildStopping",
    "ChildTemporary",
    "FailedToStartChild",
    "InvalidSpec",
    "NotForDynamic",
    "SupervisorError",
    "SupervisorStopping",
    "TooManyChildren",
]


class InvalidSpec(UsageError):
    """A child specification or a supervisor's flags are wrong. ``field`` and ``value`` say which and how."""

    def __init__(self, what: str, field: str, value: object, expected: str) -> None:
        self.what = what
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{what}: {field}={value!r} is not valid; {expected}")


class SupervisorError(RequestRefused):
    """The base of a supervisor's refusals. ``id`` is the child's id, or what was given for it."""

    def __init__(self, id: object, text: str) -> None:
        self.id = id
        super().__init__(text)


class ChildNotFound(SupervisorError):
    """There is no such child (OTP: ``{error, not_found}``)."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"there is no child {id!r} here")


class ChildRunning(SupervisorError):
    """The child runs; it must be terminated first (OTP: ``{error, running}``)."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"child {id!r} is running; terminate_child it first")


class ChildRestarting(SupervisorError):
    """The child is between a failure and its next start (OTP: ``{error, restarting}``)."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"child {id!r} is being restarted; terminate_child ends the attempts")


class ChildStopping(SupervisorError):
    """The child has been told to stop and has not ended yet. (OTP's supervisor would not answer now.)"""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"child {id!r} is being stopped; terminate_child waits for its end")


class ChildTemporary(SupervisorError):
    """The child is never started again, by nobody: what it was started with is forgotten."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"child {id!r} is temporary: its supervisor never starts it again; start another one")


class AlreadyStarted(SupervisorError):
    """A child of this id runs; ``ref`` is it (OTP: ``{error, {already_started, Pid}}``)."""

    def __init__(self, id: object, ref: object) -> None:
        self.ref = ref
        super().__init__(id, f"a child {id!r} is running already: {ref}")


class AlreadyPresent(SupervisorError):
    """A child of this id is specified, but does not run (OTP: ``{error, already_present}``)."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"a child {id!r} is specified already; restart_child starts it, delete_child forgets it")


class ChildStartFailed(SupervisorError):
    """The child's start did not succeed; ``reason`` says why (OTP: ``{error, Reason}``)."""

    def __init__(self, id: object, reason: object) -> None:
        self.reason = reason
        super().__init__(id, f"child {id!r} did not start: {format_exit(reason)}")


class NotForDynamic(SupervisorError):
    """A dynamic supervisor's children have no ids (OTP: ``{error, simple_one_for_one}``)."""

    def __init__(self, id: object) -> None:
        super().__init__(id, f"a dynamic supervisor knows its children by their refs; there is no child id {id!r}")


class TooManyChildren(SupervisorError):
    """The dynamic supervisor has ``limit`` children."""

    def __init__(self, id: object, limit: int) -> None:
        self.limit = limit
        super().__init__(id, f"there are {limit} children already; start_child(..., wait=True) waits for room")


class SupervisorStopping(SupervisorError):
    """The supervisor is stopping its children and will end."""

    def __init__(self, id: object = None) -> None:
        super().__init__(id, "the supervisor is shutting down")


@dataclass(frozen=True, slots=True, repr=False)
class FailedToStartChild:
    """Why a supervisor did not start: the detail of its :class:`~ramure.exits.Shutdown` reason."""

    id: Hashable
    reason: object

    def __repr__(self) -> str:
        return f"child {self.id!r} did not start: {format_exit(self.reason)}"
