"""``why``: the first line names the true cause, whatever died, from the logs alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramure import agent, agent_process, spawn
from ramure.runtime.process.handle import Agent
from ramure.runtime.views.story import near, subjects, tell
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual


def entries(home: Path, name: str = "worker") -> list[dict[str, Any]]:
    """The run's log, and the agent's, as the run itself puts them together."""
    [log] = home.glob("logs/*/_runtime.jsonl")
    found = [json.loads(line) for line in log.read_text().splitlines()]
    for own in log.parent.glob(f"{name}.jsonl"):
        found += [{**json.loads(line), "of": name} for line in own.read_text().splitlines()]
    return found


Faults = Callable[[InProcessHarness, Agent], Awaitable[None]]


def played(fault: Faults, script: list[Any], **options: Any) -> None:
    """A run with one agent that suffers ``fault``."""
    harness = InProcessHarness(script)

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", **{"backoff": Backoff(first=0.5, factor=1, limit=1, jitter=0), **options})
        ended = asyncio.Event()

        @worker.on_exit
        def on_exit(reason: object) -> None:
            ended.set()

        await fault(harness, worker)
        worker_ended.append(ended.is_set())

    worker_ended: list[bool] = []
    run_virtual(main())


async def killed_idle(harness: InProcessHarness, worker: Agent) -> None:
    harness.kill("worker")
    await worker.events.listen_for("agent_restarted")


async def killed_in_a_tool(harness: InProcessHarness, worker: Agent) -> None:
    holding, go = asyncio.Event(), asyncio.Event()

    @worker.on("hold")
    async def hold() -> str:
        """Holds."""
        holding.set()
        await go.wait()
        return "held"

    answer = asyncio.ensure_future(worker.ask("Hold."))
    await holding.wait()
    harness.kill("worker")
    await worker.events.listen_for("agent_restarted")
    go.set()
    await answer


async def killed_too_often(harness: InProcessHarness, worker: Agent) -> None:
    for number in range(1, 3):
        harness.kill("worker")
        if number < 2:
            await worker.events.listen_for("agent_restarted", where=lambda e, n=number: e.data["restarts"] == n)
    await worker.events.listen_for("agent_gave_up")
    await asyncio.sleep(1)


async def machine_gone(harness: InProcessHarness, worker: Agent) -> None:
    harness.machines[0].fail("power cut")
    await asyncio.sleep(5)


async def handler_raises(harness: InProcessHarness, worker: Agent) -> None:
    @worker.on("hold")
    async def hold() -> str:
        """Raises."""
        raise KeyError("no such thing")

    await worker.ask("Hold.")


async def handler_hangs(harness: InProcessHarness, worker: Agent) -> None:
    @worker.on("hold", timeout=3)
    async def hold() -> str:
        """Hangs."""
        await asyncio.sleep(1e6)
        return ""

    await worker.ask("Hold.")


async def nothing(harness: InProcessHarness, worker: Agent) -> None:
    await worker.ask("Hello.")


HOLD = [[ToolCall("hold")], Text("Done.")]


@pytest.mark.parametrize(
    ("fault", "script", "options", "headline"),
    [
        (
            killed_idle,
            [],
            {},
            "worker died (idle): crashed: PiExited: pi was killed by signal 9; "
            "restarted after 0.5 s, with its conversation",
        ),
        (
            killed_in_a_tool,
            HOLD,
            {},
            "worker died (busy, in hold): crashed: PiExited: pi was killed by signal 9; "
            "restarted after 0.5 s, with its conversation",
        ),
        (
            killed_too_often,
            [],
            {"max_restarts": 1},
            "worker died 2 times, the last time (idle): crashed: PiExited: pi was killed by signal 9; "
            "gave up (1 restarts within 600 s are used up): the agent ends",
        ),
        (machine_gone, [], {}, "power cut"),
        (handler_raises, HOLD, {}, "worker has not died; its last trouble: the tool hold failed: KeyError: "),
        (handler_hangs, HOLD, {}, "worker has not died; its last trouble: the tool hold failed: HandlerTimeout"),
        (nothing, [Text("Hi.")], {}, "worker has not died, and nothing has gone wrong"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_first_line_names_the_cause(
    home: Path, fault: Faults, script: list[Any], options: dict[str, Any], headline: str
) -> None:
    played(fault, script, **options)
    story = tell("worker", entries(home))
    assert headline in story.headline
    assert "\n" not in story.headline
    assert [c.at for c in story.chapters] == sorted(c.at for c in story.chapters)


def test_deaths_and_restarts_are_chapters_in_order(home: Path) -> None:
    played(killed_too_often, [], max_restarts=1)
    story = tell("worker", entries(home))
    kinds = [c.kind for c in story.chapters if c.kind != "trouble"]
    assert kinds == ["died", "restarted", "died", "gave_up", "ended"]
    assert (story.deaths, story.restarts) == (2, 1)
    assert "worker" in subjects(entries(home))
    assert "main#1" in subjects(entries(home))


def test_a_process_that_failed_and_what_died_below_it(home: Path) -> None:
    @agent_process
    async def broken() -> None:
        raise LookupError("no such word")

    @agent_process
    async def main() -> None:
        await asyncio.wait([asyncio.ensure_future(_settled(spawn(broken)))])

    async def _settled(handle: Any) -> None:
        with pytest.raises(LookupError):
            await handle

    run_virtual(main())
    found = entries(home)
    story = tell("broken#2", found)
    assert "LookupError: no such word" in story.headline
    assert tell("broken", found).headline.replace("broken ", "broken#2 ", 1) == story.headline
    assert tell("main#1/broken#2", found).chapters == story.chapters
    above = tell("main#1", found)
    assert above.headline.startswith("main#1 is done; 1 in it died, the last: Process broken#2")
    assert "LookupError: no such word" in above.headline


def test_what_was_done_by_hand_is_told_with_the_death() -> None:
    story = tell(
        "worker",
        [
            {
                "type": "operator",
                "ts": 10.0,
                "command": "kill",
                "actor": "worker",
                "path": "r/worker",
                "reason": "enough",
            },
            {
                "type": "crash_report",
                "at": 10.5,
                "address": "worker",
                "path": "r / worker",
                "reason": "killed",
                "did": "x",
            },
        ],
    )
    assert story.headline == "worker died: killed; by hand: kill: enough; x"


def test_what_was_done_to_a_part_of_it_is_told_too() -> None:
    path = "run / worker / pi of worker"
    kill = {
        "type": "operator",
        "ts": 10.0,
        "command": "kill",
        "actor": "pi of worker",
        "path": path,
        "reason": "enough",
    }
    death = {"type": "crash_report", "at": 10.1, "address": "worker", "path": path, "reason": "enough", "did": "x"}
    assert tell("worker", [kill, death]).headline == "worker died: enough; by hand: kill pi of worker: enough; x"
    assert tell("run", [kill]).headline == "run was not seen to die; by hand: kill pi of worker: enough"
    assert tell("other", [kill]).chapters == ()


def test_a_connection_that_was_cut_is_no_death() -> None:
    cut = {"type": "connection", "of": "worker", "ts": 3.0, "data": {"state": "lost", "reason": "code 1006"}}
    back = {"type": "connection", "of": "worker", "ts": 3.1, "data": {"state": "back"}}
    story = tell("worker", [cut, back])
    assert story.headline == "worker has not died; its last trouble: its connection was lost: code 1006"
    assert (story.deaths, len(story.chapters)) == (0, 2)
    assert tell("other", [cut, back]).chapters == ()


def test_a_full_disk_is_everybodys_trouble() -> None:
    alarm = {"type": "alarm", "ts": 3.0, "alarm": "disk_full", "of": "the logs", "path": "/logs", "reason": "ENOSPC"}
    alarm |= {"seconds": 0.0, "needed": 65_636, "limit": 300.0}
    what = "disk full: /logs: no room for the logs (ENOSPC); 65,636 bytes are needed to go on, within 300 s"
    assert tell("worker", [alarm]).headline == f"worker is held up by a full disk: {what}"
    died = {"type": "run_died", "ts": 9.0, "pid": 1}
    ended = tell("worker", [alarm, died])
    assert ended.headline == f"worker was held up by a full disk until the run ended: {what}"
    over = {**alarm, "type": "alarm_over", "ts": 4.0}
    assert tell("worker", [alarm, over]).headline == f"worker has not died; its last trouble: {what}"
    session = {**alarm, "of": "the conversation of agent 'worker'", "path": "/sessions"}
    assert "is held up by a full disk: disk full: /sessions" in tell("worker", [alarm, session, over]).headline


def of_process(name: str, at: float, event: str, data: Any = None) -> dict[str, Any]:
    return {"type": "event", "ts": at, "process": name, "event": event, "source": None, "data": data}


def test_a_cancelled_process_is_told_as_cancelled() -> None:
    cancelled = of_process("main#1/child#2", 3.0, "cancelled", "shutdown")
    story = tell("child#2", [cancelled])
    assert (story.headline, [c.kind for c in story.chapters]) == ("child#2 was cancelled: shutdown", ["cancelled"])
    above = tell("main#1", [cancelled, of_process("main#1", 4.0, "done", 1)])
    assert (above.headline, above.deaths) == ("main#1 is done", 0)
    assert [(c.kind, c.text) for c in above.chapters] == [("cancelled", "child#2: shutdown"), ("ended", "done")]


def test_an_end_is_told_once() -> None:
    failed = of_process("main#1", 3.0, "failed", "ValueError: no")
    report = {"type": "crash_report", "ts": 3.0, "who": "Process main#1", "path": "run / processes / main#1"}
    report |= {"reason": "crashed: ValueError: no", "did": "none: it is temporary"}
    story = tell("main", [failed, report])
    assert story.headline == "main died: crashed: ValueError: no; not restarted: it is temporary"
    assert [c.kind for c in story.chapters] == ["died"]


@pytest.mark.parametrize(
    ("end", "run", "worker"),
    [
        ({"type": "run_ended", "outcome": "done"}, "the run is done", "; its run is done"),
        (
            {"type": "run_ended", "outcome": "failed", "reason": "ValueError: no"},
            "the run failed: ValueError: no",
            "; its run failed: ValueError: no",
        ),
        (
            {"type": "run_ended", "outcome": "cancelled", "reason": "shutdown"},
            "the run was cancelled: shutdown",
            "; its run was cancelled: shutdown",
        ),
        ({"type": "run_died"}, "the run died: its program was killed, or its host went down", None),
        (None, "the run died: its program was killed, or its host went down", None),
    ],
)
def test_of_a_run_that_is_over_the_answer_is_how_it_ended(
    end: dict[str, Any] | None, run: str, worker: str | None
) -> None:
    found: list[dict[str, Any]] = [{"type": "run_started", "ts": 1.0}, *([{**end, "ts": 9.0}] if end else [])]
    assert tell("run", found, live=False).headline == run
    nothing = "worker has not died, and nothing has gone wrong"
    with_it = "worker died with its run: its program was killed, or its host went down"
    assert tell("worker", found, live=False).headline == (nothing + worker if worker else with_it)
    assert tell("worker", found[:1]).headline == nothing
    assert tell("run", found[:1]).headline == "the run lives, and nothing has gone wrong"
    death = {"type": "crash_report", "ts": 3.0, "address": "w", "who": "agent w", "path": "run / w", "reason": "killed"}
    assert tell("run", [*found, death], live=False).headline == f"{run}; 1 in it died, the last: agent w: killed"


def test_who_may_be_meant() -> None:
    assert near("wroker", ["worker", "main#1"]) == ["worker"]


log_values = st.recursive(
    st.none() | st.integers() | st.text() | st.floats(), lambda inner: st.lists(inner), max_leaves=3
)
fields = st.sampled_from(
    ["type", "at", "ts", "address", "agent", "path", "who", "reason", "data", "of", "process", "event"]
)
kinds = st.sampled_from(["crash_report", "agent_restarted", "tool_error", "problem", "connection", "event", "operator"])


@settings(max_examples=30)
@given(st.lists(st.dictionaries(fields, log_values | st.just("worker"), max_size=8)), kinds)
def test_odd_entries_are_passed_over(odd: list[dict[str, Any]], kind: str) -> None:
    found = [{**entry, "type": kind} for entry in odd]
    story = tell("worker", found)
    assert story.headline.startswith("worker")
    assert "\n" not in story.headline
    subjects(found)
