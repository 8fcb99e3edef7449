"""Which run that has ended is meant, where no live one is."""

from __future__ import annotations

from pathlib import Path

import click

from ramure.runtime.control.errors import NoSuchRun
from ramure.runtime.log.reader import run_directories

__all__ = ["ended_run"]


def ended_run(wanted: str | None, none_live: NoSuchRun) -> Path:
    """The directory of its logs: of the run whose id begins with ``wanted``; without it, of the last that ended. Raises
    ``none_live`` where there is none."""
    ended = [path for path in run_directories() if path.name.startswith(wanted or "")]
    if not ended:
        raise none_live
    if wanted is None or len(ended) > 1:
        click.echo(f"ramure: {ended[0].name}, the last that ended", err=True)
    return ended[0]
