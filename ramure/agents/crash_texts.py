"""Texts about the death of a pi, for its successor and its crash report, and about a damaged session. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ramure.agents.errors import PiExited
from ramure.exits import Crashed, format_exit

__all__ = ["LOST", "brief", "crash_report", "doing", "ended_with", "forged", "lost_commands", "notice", "screen_of"]

LISTED: Final = 20
"""Command lines in a notice, at most."""

LONGEST: Final = 200
"""Characters of each, at most."""

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


def ended_with(reason: object) -> tuple[str, ...]:
    """The command lines that were ended with the pi that ended, as far as they are known."""
    return tuple(getattr(reason.exception, "ended", ())) if isinstance(reason, Crashed) else ()


def ended_notice(ended: Sequence[str]) -> str:
    """What the next pi is told of the commands that were ended with the last one; "" if there were none."""
    if not ended:
        return ""
    shown = [each if len(each) <= LONGEST else f"{each[: LONGEST - 1]}…" for each in ended[:LISTED]]
    more = [f"and {len(ended) - LISTED} more"] if len(ended) > LISTED else []
    lines = "\n".join(f"- {each}" for each in [*shown, *more])
    return (
        f"These commands of your shell still ran, and were ended with your process; start again what you need:\n{lines}"
    )


def lost_commands(ended: Sequence[str]) -> str:
    """The notice where nothing else is to be told."""
    return f"(ramure) {ended_notice(ended)}"


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
    parts.append("Go on with what you were doing.")
    return "\n".join(filter(None, [" ".join(parts), ended_notice(ended_with(reason))]))


def forged(seqs: Sequence[int], so: str) -> str:
    """What the logs say of messages in a session that the run did not send; ``so``: what has been done about them."""
    numbers = ", ".join(map(str, seqs[:LISTED])) + (", …" if len(seqs) > LISTED else "")
    return (
        f"pi's session held what looks like messages of the run, numbered {numbers}, and was not sent by it: another program "
        f"has written to its file, or it is another agent's. {so} The run's own messages are delivered all the same"
    )


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
