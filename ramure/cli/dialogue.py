"""How the lines of a conversation are written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from ramure.cli.common import age, clock
from ramure.cli.text import one_line, printable, shortened, width

if TYPE_CHECKING:
    from ramure.runtime.views.dialogue import Line

__all__ = ["shown", "took"]

SPEAKERS: Final = {"program": "green", "person": "magenta", "system": "bright_black", "ramure": "yellow"}
"""Agents have another colour."""

LEAST: Final = 24
"""Columns of what a tool returned, before the call itself is cut for it."""

UNCUT: Final = 1000


def shown(line: Line, most: int | None, *, live: bool) -> str:
    """One thing that was said or done; of a text, at most so many lines. ``live``: a call without an outcome may still run."""
    when = clock(line.at)
    begin = click.style(when, fg="bright_black") + "  "
    indent = len(when) + 2
    name = one_line(line.who, 60)
    who = click.style(name, fg=SPEAKERS.get(name, "cyan"), bold=True)
    match line.kind:
        case "said":
            to = f" → {one_line(line.to, 60)}" if line.to else ""
            return begin + _text(f"{who}{to}: ", len(name) + len(to) + 2, indent, line.text, most)
        case "call":
            return begin + _call(line, who, len(name), width() - indent, live)
    colour = "red" if line.kind == "trouble" else "bright_black"
    room = min(UNCUT, width() - indent - len(name) - 1)
    if line.kind == "trouble":
        return begin + _text(f"{who} ", len(name) + 1, indent, line.text, most, colour)
    return f"{begin}{who} {click.style(one_line(line.text, room), fg=colour)}"


def took(seconds: float) -> str:
    """``0.2s``, ``12s``, ``3m05s``."""
    return f"{seconds:.1f}s" if seconds < 9.95 else age(seconds)


def _call(line: Line, who: str, name: int, room: int, live: bool) -> str:
    """In one line, whatever the terminal's width: what is cut is first the result, then the call."""
    sign, colour = ("✓", "green") if line.ok else ("✗", "red") if line.ok is False or line.cut else ("…", "yellow")
    if line.seconds is not None:
        end = f"  {took(line.seconds)}" if line.seconds >= 0.05 else ""
    elif line.cut:
        end = "  pi ended meanwhile"
    elif line.ok is None:
        end = f"  runs for {age(time.time() - line.at)}" if live else "  no outcome"
    else:
        end = ""
    room = min(UNCUT, room - name - 3 - len(end))
    text, result = one_line(line.text, room), one_line(line.result, room)
    if result:
        text = shortened(text, max(room - 3 - min(len(result), LEAST), room // 2))
        result = shortened(result, room - 3 - len(text))
    arrow = click.style(" → ", fg="bright_black") if result else ""
    shown = click.style(result, fg="red" if line.ok is False else "bright_black") if result else ""
    return f"{who} {click.style(sign, fg=colour)} {text}{arrow}{shown}{click.style(end, fg='bright_black')}"


def _text(begin: str, used: int, indent: int, text: str, most: int | None, colour: str | None = None) -> str:
    """A text of several lines: below its first word, in as many lines as the terminal needs."""
    import textwrap

    room = width() - indent
    lines: list[str] = []
    for number, line in enumerate(text.strip().splitlines() or [""]):
        if most is not None and len(lines) > most:
            break
        first = " " * used if number == 0 else ""
        wrapped = (
            textwrap.wrap(first + printable(line.expandtabs()), room, break_on_hyphens=False) if room < UNCUT else []
        )
        lines += wrapped or [first + printable(line.expandtabs())]
    lines[0] = lines[0][used:]
    left_out = most is not None and len(lines) > most
    styled = [click.style(line, fg=colour) if colour else line for line in (lines[:most] if left_out else lines)]
    if left_out:
        more = len(text.strip().splitlines())
        styled.append(click.style(f"… ({more} lines; --full shows them)", fg="bright_black"))
    return begin + f"\n{' ' * indent}".join(styled)
