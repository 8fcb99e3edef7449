"""How the commands write: tables that fit the terminal, and texts of others without what a terminal would act on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

import click

__all__ = [
    "ENDLESS",
    "Cell",
    "hanging",
    "one_line",
    "printable",
    "run_together",
    "shortened",
    "state",
    "table",
    "width",
]

Cell = str | tuple[str, str]
"""A text, or a text and its colour."""

ENDLESS: Final = 100_000
"""The columns of a pipe: nothing is cut for it."""

NARROW: Final = 20
"""Columns to which a long text in a table is cut, before a whole column is left out."""

COLOURS: Final = {
    "idle": "green",
    "busy": "cyan",
    "running": "green",
    "done": "green",
    "paused": "yellow",
    "waiting_for_model": "yellow",
    "restarting": "yellow",
    "failed": "red",
    "stalled": "red",
    "died": "red",
    "ended": "red",
    "cancelled": "yellow",
}


def state(name: str, shown: str | None = None) -> Cell:
    """A state in its colour."""
    return (shown or name, COLOURS[name]) if name in COLOURS else (shown or name)


def width() -> int:
    """Columns of the terminal; of a pipe, enough for all."""
    if not sys.stdout.isatty():
        return ENDLESS
    import shutil

    return max(20, shutil.get_terminal_size((120, 40)).columns)


def printable(text: str) -> str:
    """Nothing that a terminal would act on: names and messages are anybody's."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def one_line(text: object, most: int) -> str:
    """A text of the run's, without what could confuse a terminal, cut to ``most`` characters."""
    return shortened(printable(" ".join(str(text).split())), most)


def shortened(text: str, most: int) -> str:
    """Cut to so many columns, with an ellipsis where something is missing."""
    if _columns(text) <= most:
        return text
    while text and _columns(text) >= most:
        text = text[: min(len(text) - 1, max(0, most - 1))]
    return text + "…" if most > 0 else ""


def hanging(begin: str, indent: int, text: str) -> str:
    """``begin``, which takes ``indent`` columns, and a text behind it: on a terminal that is too narrow, in lines that begin
    below its first word."""
    room = width()
    if indent + _columns(text) <= room:
        return (begin + text).rstrip()
    import textwrap

    indent = min(indent, room // 2)
    lines = textwrap.wrap(text, room - indent, break_on_hyphens=False) or [""]
    return f"\n{' ' * indent}".join([(begin + lines[0]).rstrip(), *lines[1:]])


def run_together(begin: str, parts: Sequence[str], between: str, colour: str | None = None) -> str:
    """The parts behind each other, in as many lines as the terminal needs; none is torn."""
    indent = _columns(click.unstyle(begin))
    lines, used = [begin], indent
    for at, part in enumerate(parts):
        gap, takes = between if at else "", _columns(click.unstyle(part))
        if at and used + len(gap) + takes > width():
            lines.append(" " * indent)
            used, gap = indent, ""
        lines[-1] += gap + (click.style(part, fg=colour) if colour else part)
        used += len(gap) + takes
    return "\n".join(lines)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> str:
    """Aligned columns; ``right`` names those that are aligned to the right.

    On a terminal that is too narrow, long texts are cut, those of the columns ``whole`` last; where that is not enough, the
    columns of ``spare`` are left out, the first one first, and the head ends with an ellipsis.
    """
    texts = [[printable(cell if isinstance(cell, str) else cell[0]) for cell in row] for row in rows]
    colours = [[None if isinstance(cell, str) else cell[1] for cell in row] for row in rows]
    natural = [max(_columns(row[at]) for row in (head, *texts)) for at in range(len(head))]
    shown, widths = _fitted(head, natural, (*right, *whole), spare, width())

    def line(cells: Sequence[str], fgs: Sequence[str | None]) -> str:
        parts = []
        for at in shown:
            text = shortened(cells[at], widths[at])
            gap = " " * (widths[at] - _columns(text))
            last = at == shown[-1] and head[at] not in right
            padded = gap + text if head[at] in right else text if last else text + gap
            parts.append(click.style(padded, fg=fgs[at]) if fgs[at] else padded)
        return "  ".join(parts).rstrip()

    more = click.style("  …", fg="bright_black") if len(shown) < len(head) else ""
    first = line(head, ["bright_black"] * len(head)) + more
    return "\n".join([first, *map(line, texts, colours)])


def _fitted(
    head: Sequence[str], natural: Sequence[int], whole: Sequence[str], spare: Sequence[str], room: int
) -> tuple[list[int], dict[int, int]]:
    """Which columns are shown, and how wide."""
    left_out: list[str] = []
    for name in (None, *spare):
        if name is not None:
            left_out.append(name)
        shown = [at for at in range(len(head)) if head[at] not in left_out]
        room_now = room - 2 * (len(shown) - 1) - (3 if left_out else 0)
        least = {at: natural[at] if head[at] in whole else max(len(head[at]), min(natural[at], NARROW)) for at in shown}
        if sum(least.values()) <= room_now:
            break
    widths = {at: natural[at] for at in shown}
    heads = {at: len(head[at]) for at in shown}
    kept = {at: widths[at] if head[at] in whole else heads[at] for at in shown}
    for bound in (least, kept, heads):  # each is less than the one before
        for at in _widest_first(widths, bound, sum(widths.values()) - room_now):
            widths[at] -= 1
    return shown, widths


def _widest_first(widths: dict[int, int], least: dict[int, int], too_much: int) -> Iterator[int]:
    """The columns to take one from, again and again, until it fits or none is left to take from."""
    for _ in range(too_much):
        longer = [at for at in widths if widths[at] > least[at]]
        if not longer:
            return
        yield max(longer, key=lambda at: widths[at])


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
