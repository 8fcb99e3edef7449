"""Crash reports for people: what ended, why and doing what, how often, and what the supervisor did.

Pure: no clock, no asyncio, no I/O. Exit reasons are rendered by :func:`ramure.exits.format_exit`.
"""

from __future__ import annotations

from typing import Final

from ramure.exits import format_exit
from ramure.supervisors.messages import CrashReport

__all__ = ["format_report"]

_WHAT: Final = {
    "child_terminated": "ended",
    "start_error": "did not start",
    "shutdown_error": "did not stop as told",
}


def format_report(supervisor: str, report: CrashReport) -> str:
    """The report as a few lines of text; ``supervisor`` is the label of the supervisor."""
    who = f"child {report.id!r}" + ("" if report.ref is None else f", {report.ref}")
    return "\n".join(
        (
            f"{supervisor}: {who} {_WHAT[report.context]}: {format_exit(report.reason)}",
            f"  started {_times(report.incarnation)}; {report.restarts} restarts here within the last "
            f"{report.period:g} s, at most {report.intensity} allowed",
            f"  done: {report.action}",
        )
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
