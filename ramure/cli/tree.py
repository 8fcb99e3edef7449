"""``ramure tree``: the actors of a run."""

from __future__ import annotations

import time
from typing import Any

import click

from ramure.cli.actors import actor_state, drawing, refresh
from ramure.cli.common import as_json, find, json_option, run_option
from ramure.cli.text import one_line, table

__all__ = ["command"]


@click.command("tree", epilog="Example: ramure tree --watch")
@run_option
@click.option("-w", "--watch", is_flag=True, help="Show it anew until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, metavar="SECONDS", help="With --watch.")
@json_option
def command(run: str | None, watch: bool, every: float, json_wanted: bool) -> None:
    """Every actor of the run below the one that started it: its number, state, waiting messages and restarts."""
    with find(run, timeout=15.0) as client:
        if watch and not json_wanted:
            click.clear()
        while True:
            answer: dict[str, Any] = client.request("tree")
            if json_wanted:
                as_json("tree", answer)
            elif watch:
                refresh(_shown(answer))
            else:
                click.echo(_shown(answer))
            if not watch:
                return
            time.sleep(every)


def _shown(answer: dict[str, Any]) -> str:
    actors = answer["actors"]
    rows = [
        [
            label,
            (f"#{row['id']}", "bright_black"),
            row["kind"],
            actor_state(row),
            str(row["mailbox"]) if not row["mailbox"] else (str(row["mailbox"]), "yellow"),
            str(row["restarts"]) if not row["restarts"] else (str(row["restarts"]), "red"),
            one_line(row["doing"] or "", 80),
        ]
        for label, row in zip(drawing(actors), actors, strict=True)
    ]
    head = ("NAME", "ID", "KIND", "STATE", "MAILBOX", "RESTARTS", "DOING")
    return table(head, rows, right=("ID", "MAILBOX", "RESTARTS"), spare=("KIND", "DOING", "RESTARTS", "MAILBOX"))
