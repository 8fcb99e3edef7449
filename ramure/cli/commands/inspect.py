"""``ramure inspect``: all that is known about one actor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from ramure.cli.actors import actor_argument, actor_state
from ramure.cli.common import age, as_json, clock, find, json_option, run_option, tokens
from ramure.cli.text import hanging, one_line, printable, width

__all__ = ["command"]

WIDEST = 160
BARE: Final = re.compile(r"<[\w.]+>")
"""An object that says no more than its class."""

NAMES = 16
"""Columns of the names of fields, before what they are."""


@click.command("inspect", epilog="Example: ramure inspect worker; ramure inspect 'pi of worker' --record")
@actor_argument
@run_option
@click.option(
    "--record/--no-record", "record", default=None, help="Keep its last messages and its statistics from now on."
)
@click.option(
    "--patience",
    type=click.FloatRange(0, 5),
    default=0.5,
    metavar="SECONDS",
    help="How long its own state is waited for.",
)
@json_option
def command(actor: str, run: str | None, record: bool | None, patience: float, json_wanted: bool) -> None:
    """What ACTOR is and does: its state, mailbox, links, monitors, supervisor and child specification.

    ACTOR is a number as #12, a name, a place in the tree as main#1/worker, or a pattern that fits one. Its own state is that
    of its attributes, read in its turn. Its last messages and statistics are kept while --record is on, till --no-record.
    """
    with find(run, timeout=15.0) as client:
        details: dict[str, Any] = client.request("inspect", actor=actor, record=record, patience=patience)
        execution_id = client.execution_id
    if json_wanted:
        as_json("inspect", {"execution_id": execution_id, **details})
    else:
        import time

        click.echo("\n".join(_shown(details, time.time())))


def _shown(it: dict[str, Any], now: float) -> Iterator[str]:
    row = it["actor"]
    yield f"{click.style(one_line(row['label'], 80), bold=True)} #{row['id']}  {row['kind']}"
    state = actor_state(row)
    named, colour = state if isinstance(state, tuple) else (state, None)
    yield from _fields(
        ("place", row["path"]),
        ("name", row["name"]),
    )
    doing = f", {one_line(row['doing'], 100)}" if row["doing"] else ""
    yield f"  {click.style('state        ', fg='bright_black')} {click.style(named, fg=colour)}{doing}"
    yield from _fields(
        ("started", f"{clock(it['started_at'])}, {age(now - it['started_at'])} ago"),
        ("restarts", row["restarts"]),
        ("traps exits", "yes" if it["trap_exit"] else "no"),
        ("mailbox", f"{row['mailbox']} waiting" + (f", {it['dropped']} dropped" if it["dropped"] else "")),
    )
    yield from _list("waiting", it["waiting"], row["mailbox"])
    for name in ("links", "monitors", "monitored_by"):
        yield from _fields((name.replace("_", " "), _neighbours(it[name])))
    yield from _specification(it["specification"])
    yield from _supervision(it["supervision"])
    yield from _parts(it, now)
    yield from _recorded(it)
    attributes = it["attributes"]
    if attributes is None:
        yield from _fields(("own state", f"not shown: {it['not_shown']}"))
    else:
        telling = [f"{name} = {value}" for name, value in attributes.items() if not BARE.fullmatch(value)]
        yield from _list("own state", telling, len(attributes))


def _fields(*pairs: tuple[str, Any]) -> Iterator[str]:
    for name, value in pairs:
        if value is not None:
            yield hanging(f"  {click.style(f'{name:<13}', fg='bright_black')} ", NAMES, printable(str(value)))


def _list(name: str, lines: Sequence[str], count: int) -> Iterator[str]:
    for at, line in enumerate(lines):
        yield from _fields((name if at == 0 else "", one_line(line, min(WIDEST, max(20, width() - NAMES)))))
    if lines and count > len(lines):
        yield from _fields(("", f"… and {count - len(lines)} more"))


def _neighbours(them: Sequence[dict[str, Any]]) -> str:
    shown = ", ".join(f"{one_line(each['label'], 60)} #{each['id']}" for each in them[:20])
    return (shown or "none") + (f" and {len(them) - 20} more" if len(them) > 20 else "")


def _specification(spec: dict[str, Any] | None) -> Iterator[str]:
    if spec is None:
        yield from _fields(("supervisor", "none"))
        return
    shutdown = spec["shutdown"] if isinstance(spec["shutdown"], str) else f"{spec['shutdown']:g} s"
    yield from _fields(
        ("supervisor", f"{one_line(spec['supervisor']['label'], 60)} #{spec['supervisor']['id']}"),
        (
            "child",
            f"{one_line(spec['id'], 60)}: {spec['restart']} {spec['type']}, shutdown {shutdown}, starts {spec['start']}"
            + (", significant" if spec["significant"] else ""),
        ),
    )


def _supervision(it: dict[str, Any] | None) -> Iterator[str]:
    if it is None:
        return
    within = f"{it['restarts']} of {it['intensity']} restarts within {it['period']:g} s used"
    yield from _fields(("strategy", f"{it['strategy']}, {within}"))
    lines = [
        f"{child['id']}"
        + (f" #{child['actor']}" if child["actor"] is not None else "")
        + f" {child['status']}, {child['restart']}, {child['restarts']} restarts"
        for child in it["children"]
    ]
    yield from _list("children", lines[:20], len(lines))


def _parts(it: dict[str, Any], now: float) -> Iterator[str]:
    agent, process = it["agent"], it["process"]
    if agent is not None:
        yield from _fields(
            (
                "agent",
                f"{agent['state']} for {age(now - agent['since'])}, {'connected' if agent['connected'] else 'not connected'}",
            ),
            ("pi", f"{agent['pi'] or '?'}, model {agent['model'] or 'its default'}, on {agent['machine']}"),
            ("tools", ", ".join(agent["tools"]) or "none"),
            ("calls", ", ".join(agent["calls"]) or None),
            ("tokens", tokens(agent["usage"])),
        )
    if process is not None:
        yield from _fields(
            ("process", f"{process['path']}, {process['state']}"),
            ("endpoints", ", ".join(process["endpoints"]) or "none"),
            ("agents", ", ".join(process["agents"]) or None),
            ("processes", ", ".join(process["children"]) or None),
        )
    yield from _list("last events", it["events"], len(it["events"]))


def _recorded(it: dict[str, Any]) -> Iterator[str]:
    counted = it["statistics"]
    if counted is not None:
        yield from _fields(
            (
                "statistics",
                f"{counted['messages_in']} messages in, {counted['handled']} handled, {counted['replied']} replied, "
                f"{counted['signals']} signals, busy {counted['busy']:.3f} s, longest {counted['longest']:.3f} s, "
                f"since {clock(counted['since'])}",
            )
        )
    messages = it["messages"]
    if messages is None:
        yield from _fields(("last messages", "not recorded (--record does from now on)"))
    else:
        lines = [
            f"{clock(each['at'])} {each['kind']} {each['value'] or ''}"
            + (f" from {each['peer']['label']} #{each['peer']['id']}" if each["peer"] else "")
            for each in messages
        ]
        yield from _list("last messages", lines or ["none since then"], len(lines))
