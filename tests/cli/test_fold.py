"""``tree`` leaves out what people do not look for; ``trace`` has room on a narrow terminal."""

from __future__ import annotations

from typing import Any

import click

from ramure.cli.commands.trace import _line
from ramure.cli.fold import folded


def tree(*lines: str, **odd: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an indented text: ``label:Kind``."""
    rows: list[dict[str, Any]] = []
    path: list[str] = []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        label, _, kind = line.strip().partition(":")
        path[depth:] = [label]
        row = {"label": label, "kind": kind or "Worker", "depth": depth, "path": "/".join(path)}
        rows.append({**row, "state": "idle", "mailbox": 0, "restarts": 0, **odd.get(label, {})})
    return rows


RUN = (
    "run:Supervisor",
    "  log:LogWriter",
    "  gateway:GatewayActor",
    "  tmux:TmuxActor",
    "    tmux client:TmuxThread",
    "  processes:DynamicSupervisor",
    "    main#1:Process",
    "      machines of main#1:DynamicSupervisor",
    "        machine 1:MachineActor",
    "      agents of main#1:DynamicSupervisor",
    "        worker:AgentActor",
    "          session of worker:Supervisor",
    "            pi of worker:Session",
    "      children of main#1:DynamicSupervisor",
    "        pool#2:Process",
    "          my own:Supervisor",
    "            log:Worker",
    "clerk:Clerk",
)


def shown(rows: list[dict[str, Any]]) -> list[str]:
    return ["  " * row["depth"] + row["label"] for row in folded(rows)[0]]


def test_the_run_s_own_parts_and_what_stands_between_are_left_out() -> None:
    rows = tree(*RUN)
    expected = ["run", "  main#1", "    machine 1", "    worker", "    pool#2", "      my own", "        log", "clerk"]
    assert shown(rows) == expected
    assert folded(rows)[1] == len(rows) - len(expected)


def test_what_is_odd_is_shown_wherever_it_is() -> None:
    rows = tree(*RUN, **{"tmux client": {"mailbox": 50}, "children of main#1": {"state": "suspended"}})
    assert shown(rows) == [
        "run", "  tmux client", "  main#1", "    machine 1", "    worker",
        "    children of main#1", "      pool#2", "        my own", "          log", "clerk",
    ]  # fmt: skip


def test_an_event_of_a_trace_fits_into_80_columns() -> None:
    event = {
        "at": 1.5,
        "kind": "received",
        "actor": {"id": 12345, "label": "an actor with quite a long name"},
        "peer": {"id": 54321, "label": "another actor with a long name"},
        "value": "ask CallEndpoint(name='greet', arguments={'name': 'Ann'})",
    }
    assert len(click.unstyle(_line(event, 80))) <= 80
    whole = click.unstyle(_line(event, 200))
    for part in ("#12345", "#54321", "arguments={'name': 'Ann'})", ".500000 "):
        assert part in whole
