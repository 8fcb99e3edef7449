"""``ramure ls``: the live runs, and those that have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ramure.cli.common import age, as_json, clock, cost, json_option, note, tokens
from ramure.cli.doing import DOING, doing_cells
from ramure.cli.text import one_line, state, table
from ramure.runtime.control.blocking import ask_each

if TYPE_CHECKING:
    from ramure.cli.documents import Ls, Silent
    from ramure.runtime.views.status_data import EndedRun, RunSummary

__all__ = ["command"]


@click.command("ls", epilog="Example: ramure ls --json | jq -r '.runs[].agents[].address'")
@click.option("--all", "-a", "ended_too", is_flag=True, help="Also runs that have ended, from their logs.")
@click.option(
    "-n",
    "most",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="With --all: so many that have ended.",
)
@json_option
def command(ended_too: bool, most: int, json_wanted: bool) -> None:
    """The live runs, with their agents and what these are doing."""
    answers, failures = ask_each("summary")
    runs: list[RunSummary] = sorted(answers.values(), key=lambda run: run["started_at"])
    silent: list[Silent] = [{"execution_id": run, "error": str(error)} for run, error in sorted(failures.items())]
    ended = _ended(most, {*answers, *failures}) if ended_too else None
    if json_wanted:
        listed: Ls = {"runs": runs, "silent": silent}
        if ended is not None:
            listed["ended"] = ended
        as_json("ls", listed)
        return
    if runs:
        click.echo(_live(runs, time.time()))
    for run in runs:
        for alarm in run.get("alarms", ()):
            note(f"{run['execution_id']}: {alarm}")
    for each in silent:
        click.echo(f"{click.style('ramure:', fg='yellow')} {each['error']}", err=True)
    if not runs and not silent:
        click.echo("no run is live")
    for over in ended or []:
        if over["passed_over"]:
            note(f"{over['execution_id']}: {over['passed_over']}")
    if ended is not None:
        click.echo("\n" + (_table(ended) if ended else "no run has ended yet"))


def _live(runs: list[RunSummary], now: float) -> str:
    rows: list[list[Any]] = []
    for run in runs:
        its_own = [
            (run["execution_id"], "bright_white"),
            run["program"] or "-",
            age(now - run["started_at"]),
            str(run["pid"]),
            tokens(run["usage"]),
        ]
        agents = [[agent["address"], *doing_cells(agent, now)] for agent in run["agents"]] or [["-", "", "", ""]]
        rows.append([*its_own, *agents[0]])
        rows.extend(["", "", "", "", "", *agent] for agent in agents[1:])
    head = ("RUN", "PROGRAM", "AGE", "PID", "TOKENS", "AGENT", *DOING)
    return table(
        head, rows, right=("TOKENS", "PID", "FOR"), spare=("PID", "PROGRAM", "TOKENS", "AGE"), whole=("RUN", "AGENT")
    )


def _ended(most: int, live: set[str]) -> list[EndedRun]:
    from ramure.runtime.log.reader import outline, run_directories

    directories = [path for path in run_directories() if path.name not in live][:most]
    return [outline(path) for path in directories]


def _table(ended: list[EndedRun]) -> str:
    rows = [
        [
            run["execution_id"],
            run["program"] or "-",
            clock(run["started_at"]) if run["started_at"] is not None else "-",
            age(run["seconds"]),
            tokens(run["usage"]),
            cost(run["usage"]),
            state(run["outcome"]),
            one_line((run["reason"] or "").partition("\n")[0], 60),
        ]
        for run in ended
    ]
    head = ("ENDED", "PROGRAM", "STARTED", "TOOK", "TOKENS", "COST", "OUTCOME", "REASON")
    return table(head, rows, right=("TOOK", "TOKENS", "COST"), spare=("PROGRAM", "STARTED", "COST", "TOKENS"))
