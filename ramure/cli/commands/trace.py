"""``ramure trace``: what happens to actors, as it happens."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import click

from ramure.cli.actors import actor_argument
from ramure.cli.common import find, json_option, run_option
from ramure.cli.text import one_line, width

__all__ = ["command"]

COLOURS: Final = {"replied": "blue", "signal": "yellow", "started": "green", "ended": "red"}

ROOMY: Final = 120
"""Columns of a terminal with room for all of an event."""


@click.command("trace", epilog="Example: ramure trace 'pi of *' --signals -n 20")
@actor_argument
@run_option
@click.option("--messages", is_flag=True, help="Messages as they arrive.")
@click.option("--calls", is_flag=True, help="Requests, and their answers.")
@click.option("--signals", is_flag=True, help="Exit signals, starts and ends.")
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", help="End after N events.")
@json_option
def command(
    actor: str, run: str | None, messages: bool, calls: bool, signals: bool, limit: int | None, json_wanted: bool
) -> None:
    """What happens to ACTOR from now on, until Ctrl-C: messages, calls and signals, if none of them is chosen.

    ACTOR may be a pattern, for several actors and those to come; who takes an actor's place after a restart is traced too. All
    is off again when this command ends, however it does. A traced actor is a little slower, the others are not.
    """
    chosen = [name for name, on in (("messages", messages), ("calls", calls), ("signals", signals)) if on]
    with find(run) as client:
        items = client.stream("trace", actor=actor, show=chosen or None, limit=limit)
        dropped = 0
        for together in items:
            if items.dropped > dropped:
                _missing(items.dropped - dropped, json_wanted)
                dropped = items.dropped
            for event in together:
                _show(event, json_wanted)
        if items.dropped > dropped:
            _missing(items.dropped - dropped, json_wanted)


def _show(event: dict[str, Any], json_wanted: bool) -> None:
    if json_wanted:
        click.echo(json.dumps({"schema": "ramure.trace.v1", **event}, ensure_ascii=False))
        return
    click.echo(_line(event, width()))


def _line(event: dict[str, Any], columns: int) -> str:
    """On a narrow terminal without numbers and microseconds, and with short names, so that what happens has room."""
    narrow = columns < ROOMY
    at, peer = event["at"], event["peer"]
    when = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1_000_000):06}"[: 4 if narrow else 7]
    who, other = (
        "" if who is None else one_line(who["label"], most) if narrow else f"{one_line(who['label'], 40)} #{who['id']}"
        for who, most in ((event["actor"], 18), (peer, 13))
    )
    by = f" from {other}" if peer is not None else ""
    kind = click.style(f"{event['kind']:<8}", fg=COLOURS.get(event["kind"]))
    room = max(20, columns - len(when) - len(who) - len(by) - 11)
    said = one_line(event["value"], room) if event["value"] is not None else ""
    return f"{click.style(when, fg='bright_black')} {who} {kind} {said}{by}".rstrip()


def _missing(count: int, json_wanted: bool) -> None:
    if json_wanted:
        click.echo(json.dumps({"schema": "ramure.trace.v1", "dropped": count}))
    else:
        click.echo(click.style(f"… {count} events came too fast, and are not shown", fg="yellow"))
