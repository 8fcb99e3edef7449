"""The live display of ``ramure run`` and ``progress()``, on a terminal: what the program prints goes on above it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ramure.cli.common import age
from ramure.cli.text import COLOURS, one_line, printable
from ramure.cli.watch import Seen, doing, ending, head, spent, working

__all__ = ["LiveTable"]

PROMPT: Final = 0.3
"""Seconds after which a line without an end is taken for a question to whoever sits there."""

NARROW: Final = 100
"""Columns below which tokens alone are shown, without cost."""


class LiveTable:
    """Agents, what they do and for how long, tokens and cost. ``own``: prints of this program are taken over; else they
    come by :meth:`write`."""

    def __init__(self, *, own: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._own = own
        self._live: Live | None = None
        self._partial = ""
        self._partial_at = 0.0
        self._asking = False  # a question stands on the terminal: nothing is drawn

    def show(self, runs: Iterable[Seen]) -> None:
        """Draw it anew."""
        if self._partial and time.monotonic() - self._partial_at > PROMPT and not self._asking:
            self._ask()
        shown = [seen for seen in runs if seen.live]
        if self._asking or not shown:
            return
        if self._live is None:
            redirect = self._own
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=redirect and sys.stdout.isatty(),
                redirect_stderr=redirect,
            )
            self._live.start()
        self._live.update(self._drawn(shown), refresh=True)

    def write(self, text: str) -> None:
        """What the program has printed: whole lines above the display."""
        if self._asking:
            sys.stderr.write(text)
            sys.stderr.flush()
            self._asking = "\n" not in text
            return
        *lines, partial = (self._partial + text.replace("\r\n", "\n")).split("\n")
        for line in lines:
            shown = line.rpartition("\r")[2]  # a line that was written over
            self._console.print(Text.from_ansi(shown), soft_wrap=True, markup=False)
        self._partial, self._partial_at = partial, time.monotonic()

    def _ask(self) -> None:
        """A question: it stands where the cursor is, and the answer is typed behind it."""
        self._stop()
        sys.stderr.write(self._partial)
        sys.stderr.flush()
        self._partial, self._asking = "", True

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self, runs: Iterable[Seen]) -> None:
        """Take it away; a line for each run stays."""
        self._stop()
        if self._partial:
            self._console.print(Text.from_ansi(self._partial), soft_wrap=True, markup=False)
            self._partial = ""
        for seen in runs:
            colour = COLOURS.get(seen.status.get("outcome") or "running", "")
            self._console.print(Text(ending(seen), style=_style(colour)), soft_wrap=True)

    def _drawn(self, runs: list[Seen]) -> Any:
        size = shutil.get_terminal_size((80, 24))
        rows = max(3, size.lines // 2 - 2)  # the other half is the program's
        each = max(2, rows // len(runs))
        return Group(*(part for seen in runs for part in self._run(seen, each, size.columns)))

    def _run(self, seen: Seen, rows: int, columns: int) -> list[Any]:
        status, now = seen.status, time.time()
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append(status["execution_id"], style="bold")
        for part in filter(None, head(seen)):
            title.append(f"  {printable(part)}", style="" if seen.answers else "red")
        agents = list(working(status))
        table = Table(box=None, pad_edge=False, show_header=False, expand=True, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, columns // 3))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        if columns >= NARROW:
            table.add_column(no_wrap=True, justify="right")
        for agent in agents if len(agents) <= rows else agents[: rows - 1]:
            state, what = doing(agent)
            since = agent["doing_since"] if agent.get("doing_since") is not None else agent["since"]
            cells: list[Any] = [
                Text(one_line(agent["address"], 60)),
                Text(state, style=_style(COLOURS.get(state, ""))),
                age(now - since) if since is not None else "",
                Text(what),
                *spent(agent)[: 2 if columns >= NARROW else 1],
            ]
            table.add_row(*cells)
        parts: list[Any] = [title, table] if agents else [title]
        if len(agents) > rows:
            parts.append(Text(f"… and {len(agents) - rows + 1} more", style="bright_black"))
        stalled = [each["stalled"] for each in status["processes"] if each["stalled"]]
        parts += [Text(one_line(why, columns), style="red") for why in [*status.get("alarms", ()), *stalled][:3]]
        return parts


def _style(colour: str) -> str:
    return colour.replace("bright_white", "white")
