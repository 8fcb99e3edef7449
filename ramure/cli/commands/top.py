"""``ramure top``: who is at work, live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ramure.cli.actors import actor_state, busy_share, rate, refresh
from ramure.cli.common import as_json, cost, find, json_option, number, run_option
from ramure.cli.text import one_line, run_together, state, table

__all__ = ["command"]


@click.command("top", epilog="Example: ramure top --every 2")
@run_option
@click.option("--every", type=click.FloatRange(0.1, 60), default=1.0, metavar="SECONDS", help="How often.")
@click.option("-m", "--most", type=click.IntRange(1, 1000), default=10, metavar="M", help="Rows of each table.")
@click.option("-n", "times", type=click.IntRange(1), metavar="N", help="End after N times.")
@json_option
def command(run: str | None, every: float, most: int, times: int | None, json_wanted: bool) -> None:
    """The busiest actors, the longest mailboxes and the agents that use most tokens, until Ctrl-C.

    BUSY is the share of the time that an actor had a message in hand, waits included. The busiest are found by looking at all
    from outside, and only they are metered, so that the run does not get slower.
    """
    with find(run) as client:
        if not json_wanted:
            click.clear()
        left = times
        for item in client.stream("top", every=every, most=most):
            if json_wanted:
                as_json("top", item)
            else:
                refresh("\n".join(_shown(item)))
            left = left - 1 if left is not None else None
            if left == 0:
                return


def _shown(top: dict[str, Any]) -> Iterator[str]:
    counted = [f"{top['actors']} actors", f"{top['waiting']} messages waiting"]
    if top["loop"] is not None:
        counted.append(f"event loop {busy_share(top['loop'])} of a core")
    yield run_together(f"{click.style(top['execution_id'], bold=True)}  ", counted, ", ")
    yield ""
    if top["busiest"]:
        rows = [
            [
                one_line(row["label"], 40),
                f"#{row['id']}",
                actor_state(row),
                busy_share(row["busy"]),
                rate(row["handled_per_second"]),
                str(row["mailbox"]),
                one_line(row["doing"] or "", 50),
            ]
            for row in top["busiest"]
        ]
        head = ("BUSIEST", "ID", "STATE", "BUSY", "HANDLED/S", "MAILBOX", "DOING")
        yield table(head, rows, right=("ID", "BUSY", "HANDLED/S", "MAILBOX"), spare=("DOING", "STATE"))
    else:
        yield "nobody is busy"
    if top["longest_mailboxes"]:
        yield ""
        rows = [[one_line(r["label"], 40), f"#{r['id']}", str(r["mailbox"])] for r in top["longest_mailboxes"]]
        yield table(("LONGEST MAILBOX", "ID", "WAITING"), rows, right=("ID", "WAITING"))
    if top["agents"]:
        yield ""
        rows = [
            [
                one_line(agent["address"], 40),
                state(agent["state"]),
                number(agent["tokens"]),
                rate(agent["tokens_per_minute"]),
                cost(agent),
            ]
            for agent in top["agents"]
        ]
        names = ("MOST TOKENS", "STATE", "TOKENS", "A MINUTE", "COST")
        yield table(names, rows, right=("TOKENS", "A MINUTE", "COST"), spare=("COST", "STATE"))
