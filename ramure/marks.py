"""How what a run starts and makes is known as its own: by the run's id, in environments and in names of directories."""

from __future__ import annotations

import contextvars
from typing import Final

__all__ = ["RUN_ID", "mark_context", "marked_environment", "marked_prefix", "marked_run"]

RUN_ID: Final = "RAMURE_RUN_ID"
"""The variable that every process of a run has in its environment."""

_run: contextvars.ContextVar[str | None] = contextvars.ContextVar("ramure run", default=None)


def mark_context(run_id: str | None) -> str | None:
    """What is started and made from here on is of this run (None: of none); the run that it was of before."""
    before = _run.get()
    _run.set(run_id)
    return before


def marked_run() -> str:
    """The id of the run that what is made here is of; "" outside of one. A machine that is made elsewhere (a container)
    bears it, so that people and ``ramure gc`` can tell whose it is."""
    return _run.get() or ""


def marked_environment() -> dict[str, str]:
    """What a process is given in addition to its environment."""
    run_id = _run.get()
    return {} if run_id is None else {RUN_ID: run_id}


def marked_prefix(identity: str) -> str:
    """How the name of a temporary directory begins."""
    run_id = _run.get()
    return f"ramure-{identity}-" if run_id is None else f"ramure-{run_id}-{identity}-"
