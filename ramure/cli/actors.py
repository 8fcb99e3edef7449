"""What the commands about single actors share: their argument with its completion, and how actors are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ramure.cli.common import number
from ramure.cli.text import Cell, one_line

__all__ = [
    "actor_argument",
    "actor_names",
    "actor_state",
    "busy_share",
    "drawing",
    "optional_actor",
    "rate",
    "refresh",
    "told",
]

F = TypeVar("F", bound=Callable[..., Any])

COLOURS = {"busy": "cyan", "starting": "yellow", "suspended": "yellow", "stopping": "yellow"}


def actor_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """What the live actors are called: of the run that was said, else of all."""
    from ramure.runtime.control.blocking import ask_each

    answers, _ = ask_each("actor_names", timeout=1.0)
    wanted = ctx.params.get("run") or ""
    names = {name for run, answer in answers.items() if run.startswith(wanted) for name in answer}
    return sorted(name for name in names if name.startswith(incomplete))


def actor_argument(function: F) -> F:
    """``ACTOR``, with completion."""
    return click.argument("actor", shell_complete=actor_names)(function)


def optional_actor(function: F) -> F:
    """``[ACTOR]``, with completion."""
    return click.argument("actor", required=False, shell_complete=actor_names)(function)


def actor_state(row: Mapping[str, Any]) -> Cell:
    """A state in its colour."""
    name = row["state"]
    return (name, COLOURS[name]) if name in COLOURS else name


def drawing(rows: list[dict[str, Any]]) -> list[str]:
    """Each row's label, with the lines of the tree before it."""
    last_at: dict[int, int] = {}
    last_child = [False] * len(rows)
    for index in range(len(rows) - 1, -1, -1):  # from the end: is there a later one at the same depth, below the same?
        depth = rows[index]["depth"]
        last_child[index] = depth not in last_at
        last_at = {at: seen for at, seen in last_at.items() if at < depth} | {depth: index}
    open_above: list[bool] = []
    drawn = []
    for row, last in zip(rows, last_child, strict=True):
        depth = row["depth"]
        del open_above[depth:]
        lines = "".join("│ " if is_open else "  " for is_open in open_above[1:])
        branch = "" if depth == 0 else "└ " if last else "├ "
        drawn.append(lines + branch + one_line(row["label"], 60))
        open_above.append(not last)
    return drawn


def busy_share(value: float) -> str:
    """``85%``."""
    return f"{value * 100:.0f}%"


def rate(value: float) -> str:
    """Of something a second."""
    return f"{value:.1f}" if 0 < value < 10 else number(value)


def told(done: str, deed: Mapping[str, Any]) -> str:
    """What was done to whom."""
    return f"{done} {one_line(deed['actor'], 60)} #{deed['id']}"


def refresh(text: str) -> None:
    """Show a screen in the place of the last one; without a terminal, below it."""
    import shutil
    import sys

    if not sys.stdout.isatty():
        click.echo(f"{text}\n")
        return
    lines = shutil.get_terminal_size((120, 40)).lines
    shown = text.splitlines()
    if len(shown) > lines - 1:
        shown = [*shown[: lines - 2], click.style(f"… {len(shown) - lines + 2} more lines", dim=True)]
    # Home, each line with the rest of it cleared, then all below it: no flicker, and nothing to restore.
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J")
    sys.stdout.flush()
