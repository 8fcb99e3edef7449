"""``ramure status``: one run, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ramure.cli.common import age, as_json, clock, cost, find, json_option, run_argument, run_option, tokens
from ramure.cli.doing import DOING, doing_cells
from ramure.cli.text import one_line, printable, run_together, state, table

__all__ = ["command"]

EVENTS = 8


@click.command("status", epilog="Example: ramure status --id brave-otter")
@run_argument
@run_option
@json_option
def command(wanted: str | None, run: str | None, json_wanted: bool) -> None:
    """One run: its agents, machines, connections, endpoints and last events, and what to type next."""
    with find(run or wanted) as client:
        status = client.request("status")
        alone = client.alone
    if json_wanted:
        as_json("status", status)
    else:
        click.echo("\n".join(_shown(status, alone)))


def _shown(run: dict[str, Any], alone: bool) -> Iterator[str]:
    now = run["now"]
    paused = click.style("paused", fg="yellow") if run["paused"] else click.style("running", fg="green")
    yield run_together(
        f"{click.style(run['execution_id'], bold=True)}  ",
        [
            f"{printable(run['program'] or '')} {paused} for {age(now - run['started_at'])}",
            f"pid {run['pid']}",
            f"tokens {tokens(run['usage'])}",
            f"cost {cost(run['usage'])}",
        ],
        "  ",
    )
    yield f"logs: {run['log_dir']}"
    yield from (click.style(printable(alarm), fg="red") for alarm in run.get("alarms", ()))
    for part in (_agents(run, now), _machines(run), _connections(run), _processes(run), _events(run)):
        if part:
            yield ""
            yield part
    yield ""
    yield _next(run, "" if alone else f" --id {run['execution_id'].rpartition('-')[0]}")


def _agents(run: dict[str, Any], now: float) -> str:
    rows = [
        [
            agent["address"],
            *doing_cells(agent, now),
            str(agent["restarts"]),
            tokens(agent["usage"]),
            cost(agent["usage"]),
            agent["machine"] or "-",
            agent["process"],
        ]
        for agent in run["agents"]
    ]
    if not rows:
        return "no agents" + (f" ({run['agents_ended']} have ended)" if run["agents_ended"] else "")
    head = ("AGENT", *DOING, "RESTARTS", "TOKENS", "COST", "MACHINE", "PROCESS")
    spare = ("PROCESS", "MACHINE", "COST", "RESTARTS", "TOKENS")
    shown = table(head, rows, right=("FOR", "RESTARTS", "TOKENS", "COST"), spare=spare, whole=("AGENT",))
    return shown + (f"\n{run['agents_ended']} more have ended" if run["agents_ended"] else "")


def _machines(run: dict[str, Any]) -> str:
    rows = [[each["name"], state(each["state"]), each["process"], each["what"] or "-"] for each in run["machines"]]
    return table(("MACHINE", "STATE", "PROCESS", "WHAT"), rows, spare=("PROCESS",)) if rows else ""


def _connections(run: dict[str, Any]) -> str:
    arrows = {"both": "↔", "forward": "→"}
    shown = [f"{each['one']} {arrows.get(each['direction'], '→')} {each['other']}" for each in run["connections"]]
    return run_together("connected: ", shown, ", ") if shown else ""


def _processes(run: dict[str, Any]) -> str:
    rows = [
        [
            each["path"],
            state("stalled" if each["stalled"] else each["state"]),
            ", ".join(each["endpoints"]) or (each["reason"] or "-").partition("\n")[0],
        ]
        for each in run["processes"]
    ]
    said = [f"stalled: {one_line(each['stalled'], 1000)}" for each in run["processes"] if each["stalled"]]
    return "\n".join([table(("PROCESS", "STATE", "ENDPOINTS"), rows), *said])


def _events(run: dict[str, Any]) -> str:
    rows = []
    for event in run["events"][-EVENTS:]:
        said = " ".join(f"{key}={value}" for key, value in event["data"].items())
        rows.append([(clock(event["ts"]), "bright_black"), event["type"], one_line(said, 100)])
    return table(("TIME", "EVENT", ""), rows) if rows else ""


def _next(run: dict[str, Any], which: str) -> str:
    """What one would type now; ``which`` says the run, where another one is live too."""
    agents = [agent["address"] for agent in run["agents"]]
    hints = []
    if run["paused"]:
        hints.append(f"ramure resume{which}")
    if agents:
        hints += [
            f"ramure connect {agents[0]}{which}",
            f"ramure send {agents[0]}{which} 'Hello.'",
            f"ramure logs {agents[0]} -f{which}",
        ]
    hints += [f"ramure call {called}{which}" for called in _callable(run)[:1]]
    return run_together("next: ", [*hints, f"ramure tree{which}", f"ramure stop{which}"], " · ", "cyan")


def _callable(run: dict[str, Any]) -> list[str]:
    """Endpoints as one would call them: with the process, where several have one of that name."""
    having = [(name, process["path"]) for process in run["processes"] for name in process["endpoints"]]
    names = [name for name, _ in having]
    return [name if names.count(name) == 1 else f"{name} --as {path}" for name, path in having]
