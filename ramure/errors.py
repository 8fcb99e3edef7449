"""The exception tree. Everything ramure raises on purpose is a :class:`RamureError`.

Three families, after trio: :class:`UsageError` (the program is wrong, and the text says how to mend it),
:class:`OperationalError` (the world is: something died, was missing, took too long), and
:class:`InternalError` (ramure is; please report it).
"""

from __future__ import annotations

import errno
import sys
from typing import Any

from ramure.exits import format_exit, safe_repr

__all__ = [
    "ActorDied",
    "AskTimeout",
    "ExecutionFailed",
    "InternalError",
    "MailboxFull",
    "NameTaken",
    "NoSuchName",
    "NotInActor",
    "OperationalError",
    "RamureError",
    "RequestRefused",
    "StartFailed",
    "StopTimeout",
    "UnsupportedPlatform",
    "UsageError",
    "WouldDeadlock",
    "refuse_windows",
    "with_remedy",
]


class RamureError(Exception):
    """The root of ramure's exceptions."""

    def __reduce__(self) -> tuple[Any, ...]:
        """They can be copied and pickled, whatever their ``__init__`` takes."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def refuse_windows() -> None:
    """Raise :class:`UnsupportedPlatform` there: nothing here would get far without POSIX, and none would say why."""
    if sys.platform == "win32":
        raise UnsupportedPlatform


def with_remedy(error: OSError | RuntimeError) -> str:
    """The system's words for ``error``, and what to do where one of its limits was reached."""
    number = getattr(error, "errno", None)
    if isinstance(error, RuntimeError):  # of threading: there is no number
        number = errno.EAGAIN
    remedy = _REMEDIES.get(number or 0)
    return f"{error}; {remedy}" if remedy else str(error)


_REMEDIES: dict[int, str] = {
    errno.EMFILE: "allow this program more open files (`ulimit -n 4096`), or start fewer machines at once",
    errno.ENFILE: "this host has no descriptors left: end what holds them, or raise fs.file-max",
    errno.EAGAIN: "the limit of processes and threads is reached: raise it (`ulimit -u`), or end some",
    errno.ENOMEM: "this host has no memory left for another process",
    errno.ENOSPC: "make room there, or set TMPDIR to a directory with room",
    errno.EDQUOT: "your quota is used up: make room there, or set TMPDIR to a directory elsewhere",
}


def _rebuilt(kind: type[RamureError], args: tuple[Any, ...], state: dict[str, Any]) -> RamureError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(RamureError):
    """The calling program is wrong."""


class UnsupportedPlatform(UsageError):
    """ramure does not run on this operating system."""

    def __init__(self) -> None:
        super().__init__(
            "ramure runs on Linux and macOS, not on Windows itself: install it in WSL (`wsl --install`, then pip there)"
        )


class OperationalError(RamureError):
    """Something outside the program's own logic went wrong."""


class ExecutionFailed(OperationalError):
    """The base of every way in which a process, or a whole run, fails: catch it around ``await main()`` or
    ``await handle``. An exception of the program's own that ends a process is raised as it is.
    """


class InternalError(RamureError):
    """A defect in ramure itself."""


class ActorDied(OperationalError):
    """The actor that was asked, awaited or stopped is dead, or died before it answered.

    ``reason`` is its exit reason (``"noproc"`` when it was dead already), ``target`` names it,
    ``request`` is what it was asked (None where there was no request).
    """

    def __init__(self, target: str, reason: object, request: object = None) -> None:
        self.target = target
        self.reason = reason
        self.request = request
        doing = f" before it answered {safe_repr(request)}" if request is not None else ""
        super().__init__(f"{target} ended{doing}: {format_exit(reason)}")


class AskTimeout(OperationalError, TimeoutError):
    """No answer came in time. The actor asked may still be alive; a late answer is dropped."""

    def __init__(self, target: str, request: object, seconds: float, doing: str = "") -> None:
        self.target = target
        self.request = request
        self.seconds = seconds
        at = f" (it is {doing})" if doing else ""
        super().__init__(
            f"{target} did not answer {safe_repr(request)} within {seconds:g} s{at}; "
            f"pass timeout= for longer, or timeout=None to wait for as long as it lives"
        )


class StopTimeout(OperationalError, TimeoutError):
    """An actor told to stop did not end in time; it may end later."""

    def __init__(self, target: str, seconds: float) -> None:
        self.target = target
        self.seconds = seconds
        super().__init__(f"{target} did not stop within {seconds:g} s")


class RequestRefused(OperationalError):
    """The base for errors that an actor answers a request with, on purpose, and lives."""


class StartFailed(OperationalError):
    """An actor's start did not succeed. ``reason`` says why; when it is an exception, it is ``__cause__`` too."""

    def __init__(self, target: str, reason: object) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"{target} did not start: {format_exit(reason)}")


class MailboxFull(OperationalError):
    """A mailbox with a limit has no room. The message was not delivered."""

    def __init__(self, target: str, limit: int) -> None:
        self.target = target
        self.limit = limit
        super().__init__(f"the mailbox of {target} is full ({limit} messages); await ref.send(message) waits for room")


class NameTaken(UsageError):
    """A name is in use by another live actor."""

    def __init__(self, name: str, holder: str) -> None:
        self.name = name
        super().__init__(f"the name {name!r} is taken by {holder}; choose another, or wait for its end")


class NoSuchName(UsageError):
    """No live actor has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no live actor is registered as {name!r}")


class NotInActor(UsageError):
    """Something that only an actor can do was called outside of one."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} must be called from inside an actor (there is no current actor here)")


class WouldDeadlock(UsageError):
    """A wait that could never end was refused. ``path`` names the actors that would wait for each other."""

    def __init__(self, path: tuple[str, ...], text: str = "") -> None:
        self.path = path
        if text:
            pass
        elif len(set(path)) == 1:
            text = f"{path[0]} asked itself, and handles one message at a time; call the method directly, or tell"
        else:
            text = "this wait would never end: " + " → ".join(path)
        super().__init__(text)
