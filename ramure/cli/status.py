"""``ramure status``: one run, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ramure.cli.common import age, as_json, clock, cost, find, json_option, run_option, state, table, tokens

__all__ = ["command"]

EVENTS = 8


@click.command("status", epilog="Example: ramure status --id brave-otter")
@click.argument("wanted", required=False, metavar="[RUN]")
@run_option
@json_option
def command(wanted: str | None, run: str | None, json_wanted: bool) -> None:
    """One run: its agents, machines, connections, endpoints and last events, and what to type next."""
    with find(run or wanted) as client:
        status = client.request("status")
    if json_wanted:
        as_json("status", status)
    else:
        click.echo("\n".join(_shown(status)))


def _shown(run: dict[str, Any]) -> Iterator[str]:
    now = run["now"]
    paused = click.style("paused", fg="yellow") if run["paused"] else click.style("running", fg="green")
    yield (
        f"{click.style(run['execution_id'], bold=True)}  {run['program'] or ''} {paused} for {age(now - run['started_at'])}"
        f"  pid {run['pid']}  tokens {tokens(run['usage'])}  cost {cost(run['usage'])}"
    )
    yield f"logs: {run['log_dir']}"
    for part in (_agents(run, now), _machines(run), _connections(run), _processes(run), _events(run)):
        if part:
            yield ""
            yield part
    yield ""
    yield from _next(run)


def _agents(run: dict[str, Any], now: float) -> str:
    rows = []
    for agent in run["agents"]:
        name = "paused" if agent["paused"] else agent["state"]
        rows.append(
            [
                agent["address"],
                state(name),
                age(now - agent["since"]) if agent["since"] is not None else "-",
                str(agent["restarts"]),
                tokens(agent["usage"]),
                cost(agent["usage"]),
                agent["machine"] or "-",
                agent["process"],
            ]
        )
    if not rows:
        return "no agents" + (f" ({run['agents_ended']} have ended)" if run["agents_ended"] else "")
    head = ("AGENT", "STATE", "FOR", "RESTARTS", "TOKENS", "COST", "MACHINE", "PROCESS")
    shown = table(head, rows, right=("FOR", "RESTARTS", "TOKENS", "COST"))
    return shown + (f"\n{run['agents_ended']} more have ended" if run["agents_ended"] else "")


def _machines(run: dict[str, Any]) -> str:
    rows = [[each["name"], state(each["state"]), each["process"], each["what"] or "-"] for each in run["machines"]]
    return table(("MACHINE", "STATE", "PROCESS", "WHAT"), rows) if rows else ""


def _connections(run: dict[str, Any]) -> str:
    arrows = {"both": "↔", "forward": "→"}
    shown = [f"{each['one']} {arrows.get(each['direction'], '→')} {each['other']}" for each in run["connections"]]
    return "connected: " + ", ".join(shown) if shown else ""


def _processes(run: dict[str, Any]) -> str:
    rows = [
        [each["path"], state(each["state"]), ", ".join(each["endpoints"]) or (each["reason"] or "-").partition("\n")[0]]
        for each in run["processes"]
    ]
    return table(("PROCESS", "STATE", "ENDPOINTS"), rows)


def _events(run: dict[str, Any]) -> str:
    rows = []
    for event in run["events"][-EVENTS:]:
        said = " ".join(f"{key}={value}" for key, value in event["data"].items())
        rows.append(
            [(clock(event["ts"]), "bright_black"), event["type"], said[:100] + ("…" if len(said) > 100 else "")]
        )
    return table(("TIME", "EVENT", ""), rows) if rows else ""


def _next(run: dict[str, Any]) -> Iterator[str]:
    """What one would type now."""
    # A word is enough for a run, and none is needed if it is the only one; said in full, it can be copied.
    agents = [agent["address"] for agent in run["agents"]]
    hints = []
    if run["paused"]:
        hints.append("ramure resume")
    if agents:
        hints += [f"ramure connect {agents[0]}", f"ramure send {agents[0]} 'Hello.'", f"ramure logs {agents[0]} -f"]
    callable_ = [name for process in run["processes"] for name in process["endpoints"]]
    if callable_:
        hints.append(f"ramure call {callable_[0]}")
    yield "next: " + " · ".join(click.style(hint, fg="cyan") for hint in [*hints, "ramure tree", "ramure stop"])
