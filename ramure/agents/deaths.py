"""What is said of the death of a pi: to the pi that comes after it, and in its crash report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ramure.agents.errors import PiExited
from ramure.exits import Crashed, format_exit

__all__ = ["LOST", "brief", "crash_report", "doing", "notice", "screen_of"]

LOST: Final = (
    "(ramure) A part of this conversation was lost with its file, and what you were asked in it is asked again above. "
    "It may be done already: look before you repeat it."
)
"""What a pi is told whose conversation has a gap."""


def brief(reason: object) -> str:
    """Why a pi ended, in a line and without its screen."""
    if isinstance(reason, Crashed) and isinstance(reason.exception, PiExited):
        return reason.exception.how
    return format_exit(reason).splitlines()[0]


def screen_of(reason: object) -> str:
    """The last screen of the pi that ended, if it is known."""
    return str(getattr(reason.exception, "screen", "")) if isinstance(reason, Crashed) else ""


def doing(state: str, tools: Sequence[str]) -> str:
    """What an agent was doing when its pi ended."""
    return f"{state}, in {', '.join(tools)}" if tools else state


def notice(reason: object, ours: Sequence[str], own: Sequence[str]) -> str:
    """What the next pi is told. ``ours``: tools of the run whose calls were under way; ``own``: pi's own tools."""
    parts = [
        f"(ramure) Your process ended unexpectedly ({brief(reason)}); it has been restarted with your conversation."
    ]
    if ours:
        parts.append(f"Under way was {', '.join(ours)}: not called again, its true result stands in the conversation.")
    if own:
        parts.append(
            f"{', '.join(own)} was stopped in the middle: what it did is not known, so look before you repeat it."
        )
    return " ".join([*parts, "Go on with what you were doing."])


def crash_report(
    address: str, path: str, reason: object, *, doing: str, did: str, attempt: int, at: float
) -> dict[str, Any]:
    """The fields of the run's log entry of type ``crash_report`` (docs/faults.md)."""
    return {
        "who": f"agent {address}",
        "address": address,
        "path": path,
        "doing": doing,
        "reason": f"crashed: {type(reason.exception).__name__}: {brief(reason)}"
        if isinstance(reason, Crashed) and isinstance(reason.exception, PiExited)
        else brief(reason),
        "screen": screen_of(reason) or None,
        "did": did,
        "attempt": attempt,
        "at": at,
        "traceback": None,
    }
