"""Exit reasons: why an actor ended, and the one function that says it to people.

A reason is a plain value, as in Erlang. The reasons that the runtime itself gives a meaning are the
words ``"normal"``, ``"shutdown"``, ``"kill"``, ``"killed"`` and ``"noproc"`` (the constants below),
:class:`Shutdown` with a detail, and :class:`Crashed` with the exception. Any other value is the
user's own, and counts as abnormal.

Pure: imports nothing that does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from ramure.masking import masked

__all__ = [
    "KILL",
    "KILLED",
    "NOPROC",
    "NORMAL",
    "SHUTDOWN",
    "Crashed",
    "Phase",
    "Shutdown",
    "format_exit",
    "is_clean",
    "safe_repr",
    "short",
]

NORMAL: Final = "normal"
"""The work is done; linked actors that do not trap exits take no notice."""

SHUTDOWN: Final = "shutdown"
"""Told to stop by its supervisor or owner; not an error."""

KILL: Final = "kill"
"""As a signal: cannot be trapped. The actor it ends has the reason :data:`KILLED`."""

KILLED: Final = "killed"
"""Ended by a :data:`KILL` signal."""

NOPROC: Final = "noproc"
"""There was no such actor (any more) to link to, monitor or call."""


_WORDS: Final = {NORMAL: NORMAL, SHUTDOWN: SHUTDOWN, KILLED: KILLED, KILL: KILLED, NOPROC: "no such actor (noproc)"}

BEYOND: Final = 500
"""Characters after a cut in which a secret that begins before it may end."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """``shutdown`` with a detail, as Erlang's ``{shutdown, Detail}``: an orderly end, with the why."""

    detail: object


@dataclass(frozen=True, slots=True)
class Phase:
    """What an actor was doing when it ended: ``starting``, ``handling`` a message, ``stopping``."""

    doing: Literal["starting", "handling", "running", "stopping"]
    message: object = None

    def __str__(self) -> str:
        if self.doing == "handling":
            return f"handling {short(self.message)}"
        return self.doing


@dataclass(frozen=True, slots=True)
class Crashed:
    """An exception left the actor's code. Equal only to a crash with the very same exception object."""

    exception: BaseException
    phase: Phase | None = field(default=None, compare=False)


def is_clean(reason: object) -> bool:
    """True for ``normal``, ``shutdown`` and ``Shutdown(detail)``: ends that a *transient* child is not
    restarted after (as OTP's supervisor, "Restart Strategy")."""
    return isinstance(reason, Shutdown) or (isinstance(reason, str) and reason in (NORMAL, SHUTDOWN))


def format_exit(reason: object) -> str:
    """One line, for people, that says why something ended and what it was doing then.

    The only place that renders exit reasons (after Elixir's ``Exception.format_exit/1``): logs, errors,
    crash reports and the command line all use it. Never empty, and without secrets (:mod:`ramure.masking`).
    """
    if type(reason) is str and reason in _WORDS:
        return _WORDS[reason]
    return masked(_rendered(reason))


def _rendered(reason: object) -> str:
    match reason:
        case str() if reason in _WORDS:
            return _WORDS[reason]
        case Shutdown(detail=detail):
            return f"shutdown: {_rendered(detail) if isinstance(detail, (Crashed, Shutdown)) else short(detail)}"
        case Crashed(exception=exception, phase=phase):
            during = f" while {phase}" if phase is not None else ""
            return f"crashed{during}: {_exception_line(exception)}"
        case BaseException():
            return _exception_line(reason)
        case _:
            return short(reason)


def _exception_line(exception: BaseException) -> str:
    name = type(exception).__name__
    try:
        text = str(exception).strip()
    except Exception as error:  # as in safe_repr
        text = f"(its str raised {type(error).__name__})"
    if isinstance(exception, BaseExceptionGroup):
        inner = "; ".join(_exception_line(e) for e in exception.exceptions)
        return f"{name}: {text} [{inner}]"
    return f"{name}: {text}" if text else name


def short(value: object, limit: int = 200) -> str:
    """A string as it is, anything else as :func:`safe_repr`; never empty."""
    return _cut(value, limit) if isinstance(value, str) and value else safe_repr(value, limit)


def safe_repr(value: object, limit: int = 200) -> str:
    """``repr(value)``, cut to ``limit`` characters; never raises."""
    try:
        return _cut(repr(value), limit)
    except Exception as error:  # a user's broken __repr__ must not hide the reason behind it
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    text = masked(text[: limit + BEYOND])  # before it is cut: half a secret is not found
    return text if len(text) <= limit else text[: limit - 1] + "…"
