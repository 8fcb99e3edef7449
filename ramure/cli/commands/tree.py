"""``ramure tree``: the actors of a run."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from ramure.cli.actors import actor_state, drawing, refresh
from ramure.cli.common import as_json, find, json_option, run_option
from ramure.cli.fold import folded
from ramure.cli.text import Cell, one_line, state, table

__all__ = ["command"]

AGENT_STATES: Final = (
    "provisioning",
    "launching",
    "connecting",
    "idle",
    "busy",
    "waiting_for_model",
    "restarting",
    "ended",
)


@click.command("tree", epilog="Example: ramure tree --watch")
@run_option
@click.option("-a", "--all", "everything", is_flag=True, help="Also the run's own parts, and what stands between.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, metavar="SECONDS", help="With --watch.")
@json_option
def command(run: str | None, everything: bool, watch: bool, every: float, json_wanted: bool) -> None:
    """The actors of the run, each below the one that started it: number, state, waiting messages, restarts, what it does.

    Processes, agents, machines, and what a program has started itself; with --all, every actor.
    """
    with find(run, timeout=15.0) as client:
        if watch and not json_wanted:
            click.clear()
        while True:
            answer: dict[str, Any] = client.request("tree")
            if json_wanted:
                as_json("tree", answer)
            elif watch:
                refresh(_shown(answer, everything))
            else:
                click.echo(_shown(answer, everything))
            if not watch:
                return
            time.sleep(every)


def _shown(answer: dict[str, Any], everything: bool) -> str:
    actors, left_out = (answer["actors"], 0) if everything else folded(answer["actors"])
    rows = [_row(label, actor) for label, actor in zip(drawing(actors), actors, strict=True)]
    head = ("NAME", "ID", "KIND", "STATE", "MAILBOX", "RESTARTS", "DOING")
    empty = [] if everything else [at for at in (4, 5) if all(row[at] == "0" for row in rows)]
    head, *rows = [[cell for at, cell in enumerate(row) if at not in empty] for row in (head, *rows)]  # type: ignore[assignment]
    shown = table(
        head,
        rows,
        right=("ID", "MAILBOX", "RESTARTS"),
        spare=("KIND", "DOING", "RESTARTS", "MAILBOX"),
        whole=("NAME",),
    )
    return shown + (click.style(f"\n{left_out} more are not shown (--all)", fg="bright_black") if left_out else "")


def _row(label: str, row: dict[str, Any]) -> list[Cell]:
    named, doing = actor_state(row), row["doing"] or ""
    if row["kind"] == "AgentActor" and doing and row["state"] in ("idle", "busy"):  # the agent's own state tells more
        named, doing = (state(doing), "") if doing in AGENT_STATES else (state("busy"), doing)
    return [
        label,
        (f"#{row['id']}", "bright_black"),
        row["kind"],
        named,
        (str(row["mailbox"]), "yellow") if row["mailbox"] else "0",
        (str(row["restarts"]), "red") if row["restarts"] else "0",
        one_line(doing, 80),
    ]
