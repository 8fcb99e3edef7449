"""``ramure status``: one run, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from ramure.cli.common import (
    age,
    as_json,
    clock,
    cost,
    find,
    json_option,
    logged_run_option,
    note,
    run_argument,
    tokens,
)
from ramure.cli.doing import DOING, doing_cells
from ramure.cli.ended import ended_run
from ramure.cli.text import ENDLESS, hanging, one_line, printable, run_together, state, table, width
from ramure.runtime.control.errors import NoSuchRun
from ramure.runtime.views.dialogue import event_text

__all__ = ["command"]

EVENTS = 8

MANY = 3
"""Machines beyond which a terminal shows how many run."""

MANY_PROCESSES = 8

WRONG = ("failed", "died")


@click.command("status", epilog="Example: ramure status --id brave-otter")
@run_argument
@logged_run_option
@json_option
def command(wanted: str | None, run: str | None, json_wanted: bool) -> None:
    """One run: its agents, machines, connections, endpoints and last events, and what to type next.

    Of one that has ended, what its logs tell; with no run live, it is the last one that ended.
    """
    status, alone = _status(run or wanted)
    if json_wanted:
        as_json("status", status)
    else:
        click.echo("\n".join(_shown(status, alone)))


def _status(run: str | None) -> tuple[dict[str, Any], bool]:
    """Of the live run that is meant, else of one that has ended; and whether no other run may be meant."""
    try:
        with find(run) as client:
            return client.request("status"), client.alone
    except NoSuchRun as none_live:
        directory = ended_run(run, none_live)
    from ramure.runtime.log.entries import Passed
    from ramure.runtime.log_status import ended_status

    passed = Passed()
    status = ended_status(directory, passed)
    if passed:
        note(f"{directory.name}: {passed}")
    return {**status}, False


def _shown(run: dict[str, Any], alone: bool) -> Iterator[str]:
    now = run["now"]
    outcome = run.get("outcome")
    if outcome is not None:
        what = f"{_coloured(outcome)} after {age(now - run['started_at'])}, at {clock(now)}"
    else:
        what = f"{_coloured('paused' if run['paused'] else 'running')} for {age(now - run['started_at'])}"
    yield run_together(
        f"{click.style(run['execution_id'], bold=True)}  ",
        [
            f"{printable(run['program'] or '')} {what}".strip(),
            f"pid {run['pid']}",
            f"tokens {tokens(run['usage'])}",
            f"cost {cost(run['usage'])}",
        ],
        "  ",
    )
    if run.get("reason"):
        yield hanging("reason: ", 8, one_line(run["reason"], 1000))
    yield f"logs: {run['log_dir']}"
    yield from (click.style(printable(alarm), fg="red") for alarm in run.get("alarms", ()))
    for part in (_agents(run, now), _machines(run), _connections(run), _processes(run), _events(run)):
        if part:
            yield ""
            yield part
    yield ""
    which = "" if alone else f" --id {run['execution_id'].rpartition('-')[0]}"
    yield _next(run, which) if outcome is None else _next_ended(which)


def _coloured(name: str) -> str:
    shown = state(name)
    return shown if isinstance(shown, str) else click.style(shown[0], fg=shown[1])


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
    if "outcome" in run:
        rows = [[name, doing, restarts, used, spent] for name, _, _, doing, restarts, used, spent, _, _ in rows]
        head: tuple[str, ...] = ("AGENT", "DID LAST", "RESTARTS", "TOKENS", "COST")
        return table(head, rows, right=("RESTARTS", "TOKENS", "COST"), spare=("COST", "RESTARTS"), whole=("AGENT",))
    head = ("AGENT", *DOING, "RESTARTS", "TOKENS", "COST", "MACHINE", "PROCESS")
    spare = ("PROCESS", "MACHINE", "COST", "RESTARTS", "TOKENS")
    shown = table(head, rows, right=("FOR", "RESTARTS", "TOKENS", "COST"), spare=spare, whole=("AGENT",))
    return shown + (f"\n{run['agents_ended']} more have ended" if run["agents_ended"] else "")


def _machines(run: dict[str, Any]) -> str:
    """At a terminal, of many machines those that do not simply run."""
    machines, folded = run["machines"], 0
    if len(machines) > MANY and width() < ENDLESS:
        machines = [each for each in machines if each["state"] != "running"]
        folded = len(run["machines"]) - len(machines)
    more = f"machines: {folded} running" if folded else ""
    rows = [[each["name"], state(each["state"]), each["process"], each["what"] or "-"] for each in machines]
    shown = table(("MACHINE", "STATE", "PROCESS", "WHAT"), rows, spare=("PROCESS",)) if rows else ""
    return "\n".join(filter(None, [shown, more]))


def _connections(run: dict[str, Any]) -> str:
    arrows = {"both": "↔", "forward": "→"}
    shown = [f"{each['one']} {arrows.get(each['direction'], '→')} {each['other']}" for each in run["connections"]]
    return run_together("connected: ", shown, ", ") if shown else ""


def _processes(run: dict[str, Any]) -> str:
    """At a terminal, of many processes those that one can call, and those that something is wrong with."""
    processes = run["processes"]
    if len(processes) > MANY_PROCESSES and width() < ENDLESS:
        telling = [each for each in processes if each["endpoints"] or each["stalled"] or each["state"] in WRONG]
        processes = telling[-MANY_PROCESSES:]
    counts = Counter(each["state"] for each in run["processes"])
    left_out = len(run["processes"]) - len(processes)
    more = [f"processes: {', '.join(f'{count} {name}' for name, count in counts.items())}"] if left_out else []
    rows = [
        [
            each["path"],
            state("stalled" if each["stalled"] else each["state"]),
            ", ".join(each["endpoints"]) or (each["reason"] or "-").partition("\n")[0],
        ]
        for each in processes
    ]
    said = [f"stalled: {one_line(each['stalled'], 1000)}" for each in run["processes"] if each["stalled"]]
    head = ("PROCESS", "STATE", "ENDPOINTS" if "outcome" not in run else "WHY")
    shown = [table(head, rows, whole=("PROCESS",))] if rows else []
    return "\n".join([*shown, *more, *said])


def _events(run: dict[str, Any]) -> str:
    rows = []
    for event in run["events"][-EVENTS:]:
        said = event_text({**event["data"], "type": event["type"]}).removeprefix(f"{event['type']} ")
        if event["type"] == "event":
            said = f"{event['data'].get('process')} {said}"
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


def _next_ended(which: str) -> str:
    return run_together("next: ", [f"ramure why{which}", f"ramure logs{which}"], " · ", "cyan")


def _callable(run: dict[str, Any]) -> list[str]:
    """Endpoints as one would call them: with the process, where several have one of that name."""
    having = [(name, process["path"]) for process in run["processes"] for name in process["endpoints"]]
    names = [name for name, _ in having]
    return [name if names.count(name) == 1 else f"{name} --as {path}" for name, path in having]
