"""What holds after any program, whatever it did, was done to it, and in which order."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ramure import Event
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.process.stream import ENDINGS
from tests.properties.interpreter import World

__all__ = ["check"]

DEFECTS = ("AttributeError", "AssertionError", "TypeError", "KeyError", "IndexError", "NameError", "InternalError")
"""Exceptions that no program raises: one in a crash report is ours."""


def check(world: World, problems: list[str]) -> None:
    """Raise AssertionError for what does not hold. ``problems``: what the loop's exception handler was told."""
    run = world.run
    assert problems == []
    for record in run.processes.values():
        check_ending(record)
        check_emitted(world, record)
    for parent, handle, tag in world.bubbles:
        check_bubble(parent, handle, tag)
    for handle, how, what in world.results:
        check_result(handle, how, what)
    log = [json.loads(line) for line in run.paths.run_log.read_text().splitlines()]
    check_order_of_endings(run.processes.values(), log)
    check_reports(log)
    check_nothing_left(world)


def check_ending(record: ProcessRecord) -> None:
    """Exactly one ending, last; then the stream is closed; the outcome says the same."""
    events = record.stream.snapshot()
    endings = [event for event in events if event.source is None and event.type in ENDINGS]
    assert record.stream.closed
    assert record.outcome is not None
    if record.of_tree:
        assert endings == [], f"{record.path}: the stream of a tree is its children's"
        check_places(record, events)
    else:
        assert len(endings) == 1, f"{record.path} has the endings {endings}"
        assert events[-1] is endings[0], f"{record.path}: {events[-1]} came after {endings[0]}"
        assert endings[0].type == record.outcome.kind
        if record.outcome.kind == "done":
            assert endings[0].data == record.outcome.value
        else:
            assert endings[0].data, f"{record.path}: {endings[0]} has no text"
    assert record.ref is None or not record.ref.is_alive()
    assert record.agents == {}


def check_places(record: ProcessRecord, events: tuple[Event, ...]) -> None:
    """Each child that was started in a tree has exactly one ending there, after all else but ``gave_up``."""
    assert all(event.source is not None for event in events)
    for id in {event.source for event in events if event.type == "child_started"}:
        of_child = [event.type for event in events if event.source == id and event.type != "gave_up"]
        endings = [type for type in of_child if type in ENDINGS]
        assert len(endings) == 1, f"{id} of {record.path} has the endings {endings}"
        assert of_child[-1] == endings[0], f"{id} of {record.path}: {of_child[-1]} came after {endings[0]}"


def check_emitted(world: World, record: ProcessRecord) -> None:
    """What was emitted without an error is in the stream once, in order."""
    found = [event.data for event in record.stream.snapshot() if event.source is None and event.type == "e"]
    assert found == world.emitted[record.number], f"{record.path} emitted {world.emitted[record.number]}, has {found}"


def check_bubble(parent: ProcessRecord, handle: Any, tag: str) -> None:
    """Every event of the child is the parent's, once, in order, with the deepest tag."""
    events = handle.events.snapshot()
    expected = [Event(event.type, event.data, tag if event.source is None else event.source) for event in events]
    tags = {event.source for event in expected}
    found = [event for event in parent.stream.snapshot() if event.source in tags]
    assert found == expected, f"{handle!r} in {parent.path}: {found}, not {expected}"


def check_result(handle: Any, how: str, what: Any) -> None:
    """``await handle`` gave what the process ended with."""
    outcome = handle._record.outcome
    if how == "value":
        assert outcome.kind == "done", f"{handle!r} gave {what!r}"
        assert what == outcome.value
    elif outcome.error is what:
        assert outcome.kind == "failed"


def check_order_of_endings(records: Any, log: list[dict[str, Any]]) -> None:
    """No child outlives its parent: its ending is before its parent's."""
    ended: dict[str, int] = {}
    for index, entry in enumerate(log):
        if entry["type"] == "event" and entry["source"] is None and entry["event"] in ENDINGS:
            assert entry["process"] not in ended, f"{entry['process']} has two endings in the log"
            ended[entry["process"]] = index
    for record in records:
        if record.parent is not None and record.path in ended:
            assert ended[record.path] < ended[record.parent.path], f"{record.path} outlived its parent"


def check_reports(log: list[dict[str, Any]]) -> None:
    """Crash reports tell of the program's exceptions, not of ours."""
    for entry in log:
        if entry["type"] == "crash_report":
            text = f"{entry['reason']}\n{entry['traceback']}"
            found = [name for name in DEFECTS if name in text]
            assert not found, entry


def check_nothing_left(world: World) -> None:
    """No actor, task, agent, socket or file of the run."""
    run = world.run
    left = run.system.leaks()
    assert not left, left
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_name() for task in tasks] == []
    assert run.agents == {}
    lives = [life for machine in world.harness.machines for life in machine.tmux.lives.values()]
    assert [life.name for life in lives if not life.task.done()] == []
    for path in (run.paths.socket, run.paths.lease, run.paths.scratch):
        assert not Path(path).exists(), f"{path} is left"
    doubled = [path for path, count in Counter(r.path for r in run.processes.values()).items() if count > 1]
    assert doubled == []
