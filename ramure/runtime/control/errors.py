"""What goes wrong between a client and a run. Pure, and quick to import."""

from __future__ import annotations

from ramure.errors import OperationalError, UsageError

__all__ = [
    "AmbiguousRun",
    "BadRequest",
    "ConnectionRefused",
    "MalformedFrame",
    "NoAnswer",
    "NoSuchAgent",
    "NoSuchProcess",
    "NoSuchRun",
    "NotSendable",
    "RequestFailed",
    "RunGone",
    "TooMuch",
]


class NoSuchRun(UsageError):
    """No live run fits."""


class AmbiguousRun(UsageError):
    """Several live runs fit."""


class RequestFailed(OperationalError):
    """The run refused a request. ``kind`` is the name of the exception over there; ``field`` is the argument that
    was wrong, where one was."""

    def __init__(self, kind: str, text: str, field: str | None = None) -> None:
        self.kind = kind
        self.field = field
        super().__init__(text)


class RunGone(RequestFailed):
    """The run ended, or does not answer. ``kind`` is ``RunEnded`` or ``Timeout``."""


# -- raised in the run, and told to the client by name ---------------------------------------------------------


class BadRequest(UsageError):
    """A request that is none, or whose arguments do not fit: ``field`` is where, ``reason`` is why."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class MalformedFrame(UsageError):
    """Bytes that are no frame. The connection ends: where the next frame would begin is not known."""


class ConnectionRefused(OperationalError):
    """The run serves as many clients as it will."""


class TooMuch(OperationalError):
    """A client has as many requests under way as it may, or an answer is larger than one may be."""


class NotSendable(UsageError):
    """A value cannot go over the socket: it is nested too deeply, or too large."""


class NoAnswer(OperationalError):
    """An endpoint has not answered in the time that was given."""


class NoSuchAgent(UsageError):
    """No live agent of the run has this address."""

    def __init__(self, address: str, known: list[str]) -> None:
        super().__init__(f"no live agent {address!r}; there are: {', '.join(known) or 'none'}")


class NoSuchProcess(UsageError):
    """No live process of the run is called this, or several are."""
