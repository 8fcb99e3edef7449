"""``ramure ls``: the live runs, and the agents in them."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from ramure.runtime.control.blocking import live_runs
from ramure.runtime.control.errors import RequestFailed

__all__ = ["command"]


@click.command("ls", epilog="Example: ramure ls --json | jq '.runs[].agents[].address'")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def command(as_json: bool) -> None:
    """The live runs, with their agents and what these are doing."""
    runs = []
    for client in live_runs():
        with client:
            try:
                runs.append(client.request("status"))
            except RequestFailed as error:
                click.echo(f"ramure: {error}", err=True)
    if as_json:
        click.echo(json.dumps({"runs": runs}))
    elif not runs:
        click.echo("no run is live")
    else:
        click.echo(_table(runs, time.time()))


def _table(runs: list[dict[str, Any]], now: float) -> str:
    rows = [("RUN", "AGE", "PID", "AGENT", "STATE")]
    for run in runs:
        head = (run["execution_id"], _age(now - run["started_at"]), str(run["pid"]))
        agents = [(agent["address"], _state(agent, now)) for agent in run["agents"]] or [("-", "")]
        rows.append((*head, *agents[0]))
        rows.extend(("", "", "", *agent) for agent in agents[1:])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _state(agent: dict[str, Any], now: float) -> str:
    since = agent["since"]
    return str(agent["state"]) + (f" for {_age(now - since)}" if since is not None else "")


def _age(seconds: float) -> str:
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
