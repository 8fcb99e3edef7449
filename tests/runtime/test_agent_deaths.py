"""What is seen, said and logged when an agent's pi dies: events, notices, crash reports, and the end of its owner."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ramure import agent, agent_process, current_runtime, done, machine, wait
from ramure.agents.pi.session_file import seqs_in
from ramure.exits import Crashed
from ramure.machines.errors import MachineDown, WorkdirGone
from ramure.runtime.errors import AgentDied
from ramure.runtime.process.handle import Agent
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual

LIFE = ("agent_down", "agent_restarted", "agent_gave_up")


def run_log(home: Path) -> list[dict[str, Any]]:
    [path] = home.glob("logs/*/_runtime.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def lives(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["type"] for entry in entries if entry["type"] in LIFE]


async def killed(harness: InProcessHarness, made: Agent) -> None:
    """Kill its pi, and wait until it is restarted."""
    before = made.restarts
    harness.kill(made.address)
    async for event in made.events:
        if event.type == "agent_restarted" and event.data["restarts"] > before:
            return


def test_a_death_and_a_restart_are_events_in_the_agents_and_the_runs_log(home: Path) -> None:
    harness = InProcessHarness([])
    seen: list[tuple[str, Any]] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", backoff=Backoff(first=2, factor=1, limit=2, jitter=0))
        await killed(harness, worker)
        assert (worker.state, worker.restarts) == ("idle", 1)
        seen.extend((event.type, event.data) for event in worker.events._events if event.type in LIFE)

    run_virtual(main())
    (down, restarted) = seen
    assert down[0] == "agent_down"
    assert "PiExited: pi was killed by signal 9" in down[1]["reason"]
    assert down[1]["doing"] == "idle"
    assert restarted[0] == "agent_restarted"
    assert restarted[1]["restarts"] == 1
    assert restarted[1]["seconds"] >= 2
    entries = run_log(home)
    assert lives(entries) == ["agent_down", "agent_restarted"]
    assert {entry["agent"] for entry in entries if entry["type"] in LIFE} == {"worker"}
    [log] = home.glob("logs/*/worker.jsonl")
    assert lives([json.loads(line) for line in log.read_text().splitlines()]) == ["agent_down", "agent_restarted"]


def test_a_death_is_told_at_once_and_the_next_pi_waits_until_the_last_is_cleared_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", backoff=Backoff(first=0))
        tmux, clock = harness.machines[0].tmux, current_runtime().system.clock
        clear = tmux.kill_session

        async def slow(name: str, *, grace: float = 2.0) -> None:
            await asyncio.sleep(30)
            await clear(name, grace=grace)

        monkeypatch.setattr(tmux, "kill_session", slow)
        began = clock.monotonic()
        harness.kill("worker")
        await worker.events.listen_for("agent_down")
        assert clock.monotonic() - began < 1
        assert worker.state == "restarting"
        await worker.events.listen_for("agent_restarted")
        assert clock.monotonic() - began >= 30

    run_virtual(main())


def test_there_is_one_crash_report_for_each_death_and_it_says_all(home: Path) -> None:
    harness = InProcessHarness([[ToolCall("hold")], Text("Done.")])

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker", backoff=Backoff(first=0.5, factor=1, limit=1, jitter=0))
        holding, go = asyncio.Event(), asyncio.Event()

        @worker.on("hold")
        async def hold() -> str:
            """Holds."""
            holding.set()
            await go.wait()
            return "held"

        answer = asyncio.ensure_future(worker.ask("Hold."))
        await holding.wait()
        harness.pi("worker").screen = "❯ export KEY=sk-ant-REDACTED"
        harness.kill("worker")
        await worker.events.listen_for("agent_restarted")
        go.set()
        return await answer

    assert run_virtual(main()) == "Done."
    harness.check()
    [report] = [entry for entry in run_log(home) if entry["type"] == "crash_report"]
    assert report["who"] == "agent worker"
    assert report["address"] == "worker"
    assert "main#1" in report["path"]
    assert report["path"].endswith("pi of worker")
    assert report["doing"] == "busy, in hold"
    assert report["reason"] == "crashed: PiExited: pi was killed by signal 9"
    assert report["screen"] == "❯ export KEY=[secret]"
    assert report["did"] == "restarted after 0.5 s, with its conversation"
    assert report["attempt"] == 1
    assert report["at"] > 0


def test_a_busy_agent_is_told_what_happened_and_what_was_under_way() -> None:
    harness = InProcessHarness([[ToolCall("hold")], Text("Done.")])

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        holding, go = asyncio.Event(), asyncio.Event()
        calls: list[int] = []

        @worker.on("hold")
        async def hold() -> str:
            """Holds."""
            calls.append(1)
            holding.set()
            await go.wait()
            return "the true result"

        answer = asyncio.ensure_future(worker.ask("Hold."))
        await holding.wait()
        harness.kill("worker")
        go.set()
        said = await answer
        assert calls == [1]
        return said

    assert run_virtual(main()) == "Done."
    conversation = harness.requests[-1].conversation
    [notice] = [text for text in conversation.user_texts if "(ramure)" in text]
    assert "pi was killed by signal 9" in notice
    assert "Under way was hold: not called again, its true result stands in the conversation." in notice
    assert [result.text for result in conversation.tool_results] == ["the true result"]


def test_an_idle_agent_is_told_nothing() -> None:
    harness = InProcessHarness([Text("Hello."), Text("Again.")])

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")
        await worker.ask("Hello?")
        await killed(harness, worker)
        return await worker.ask("Still there?")

    assert run_virtual(main()) == "Again."
    texts = harness.requests[-1].conversation.user_texts
    assert [text.partition("] ")[2] for text in texts] == ["Hello?", "Still there?"]


def test_when_restarts_are_used_up_wait_raises_and_the_log_says_gave_up(home: Path) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", max_restarts=2, within=600)
        for _ in range(2):
            await killed(harness, worker)
        harness.kill("worker")
        with pytest.raises(AgentDied, match="pi was killed by signal 9"):
            await wait()
        assert worker.state == "ended"

    run_virtual(main())
    entries = run_log(home)
    assert lives(entries) == ["agent_down", "agent_restarted"] * 2 + ["agent_down", "agent_gave_up"]
    reports = [entry for entry in entries if entry["type"] == "crash_report"]
    assert [report["attempt"] for report in reports] == [1, 2, 0]
    assert reports[-1]["did"] == "gave up (2 restarts within 600 s are used up): the agent ends"


def test_a_body_that_is_elsewhere_is_cancelled_with_the_reason_after_a_grace_time() -> None:
    harness = InProcessHarness([])
    cleaned: list[float] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        await agent("worker", restart="temporary")
        clock = current_runtime().system.clock
        harness.kill("worker")
        began = clock.monotonic()
        try:
            await asyncio.sleep(1000)
        finally:
            cleaned.append(clock.monotonic() - began)

    with pytest.raises(AgentDied, match="agent 'worker' died"):
        run_virtual(main())
    assert cleaned == [pytest.approx(5, abs=1)]


def test_a_death_between_two_waits_that_time_out_is_the_next_one_s() -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        await agent("worker", restart="temporary")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await wait()
        harness.kill("worker")
        await asyncio.sleep(1)
        async with asyncio.timeout(1000):
            await wait()

    with pytest.raises(AgentDied, match="agent 'worker' died"):
        run_virtual(main())


def test_a_death_that_comes_in_the_turn_of_a_wait_s_timeout_is_the_next_one_s() -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", restart="temporary")
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(1)
        ended = asyncio.ensure_future(worker.ref.wait())
        ended.add_done_callback(lambda _: waiting.cancel())
        harness.kill("worker")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(1000):
            await wait()

    with pytest.raises(AgentDied, match="agent 'worker' died"):
        run_virtual(main())


def test_with_on_exit_the_body_goes_on_and_the_handler_can_end_it() -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> Any:
        worker = await agent("worker", restart="temporary")

        @worker.on_exit
        async def on_exit(reason: object) -> None:
            await asyncio.sleep(60)
            done(reason)

        harness.kill("worker")
        return await wait()

    reason = run_virtual(main())
    assert isinstance(reason, Crashed)
    assert "pi was killed by signal 9" in str(reason.exception)


@pytest.mark.parametrize(
    "error", [WorkdirGone("this host", "/work"), ZeroDivisionError("by chance")], ids=["workdir", "defect"]
)
def test_the_last_death_of_its_pi_and_the_agents_own_are_one_crash_report(home: Path, error: Exception) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", max_restarts=0)
        actor = worker._record.actor()
        assert actor is not None and actor.session is not None
        actor.session._cell.die(Crashed(error))
        with pytest.raises(AgentDied) as caught:
            await wait()
        assert caught.value.__cause__ is error

    run_virtual(main())
    [report] = [entry for entry in run_log(home) if entry["type"] == "crash_report"]
    assert report["path"].endswith("pi of worker")
    assert type(error).__name__ in report["reason"]
    assert report["did"].endswith("the agent ends")


def test_an_agent_that_is_killed_while_its_pi_is_restarted_has_a_crash_report_of_its_own(home: Path) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", backoff=Backoff(first=60, factor=1, limit=60, jitter=0))
        harness.kill("worker")
        await worker.events.listen_for("agent_down")
        assert worker._record.ref is not None
        worker._record.ref._cell.die(Crashed(ZeroDivisionError("another reason")))
        with pytest.raises(AgentDied):
            await wait()

    run_virtual(main())
    reports = [entry for entry in run_log(home) if entry["type"] == "crash_report"]
    [own] = [report for report in reports if report["who"] == "agent worker" and "another reason" in report["reason"]]
    assert own["path"].endswith("worker")
    assert "PiExited" in reports[0]["reason"]


def test_an_agent_whose_machine_is_stopped_dies_with_machine_down(home: Path) -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        host = await machine()
        await agent("worker", machine=host)
        await host.stop()
        with pytest.raises(AgentDied, match="it was stopped") as caught:
            await wait()
        assert isinstance(caught.value.__cause__, MachineDown)

    run_virtual(main())
    [report] = [entry for entry in run_log(home) if entry["type"] == "crash_report"]
    assert (report["who"], report["address"]) == ("agent worker", "worker")
    assert "MachineDown" in report["reason"]
    assert report["did"] == "the agent has ended: its owner is told, by AgentDied or on_exit"


def test_a_handler_that_hangs_past_its_timeout_is_answered_as_an_error() -> None:
    script = [[ToolCall("hang"), ToolCall("stubborn"), ToolCall("broken"), ToolCall("quick")], Text("Gave up on it.")]
    harness = InProcessHarness(script)
    cancelled: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")

        @worker.on("hang", timeout=3)
        async def hang() -> None:
            """Hangs."""
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append("hang")

        @worker.on("stubborn", timeout=3)
        async def stubborn() -> None:
            """Does not let itself be cancelled."""
            while len(cancelled) < 3:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    cancelled.append("stubborn")

        @worker.on("broken", timeout=3)
        async def broken() -> None:
            """Fails in time."""
            raise ValueError("no such page")

        @worker.on("quick", timeout=3)
        async def quick() -> str:
            """Ends in time."""
            return "quick enough"

        return await worker.ask("Hang.")

    assert run_virtual(main()) == "Gave up on it."
    texts = [result.text for result in harness.requests[-1].conversation.tool_results]
    late = "{} did not end within its 3 s and was cancelled; whether it took effect is not known"
    assert sorted(texts) == [
        "ValueError: no such page",
        late.format("hang"),
        "quick enough",
        late.format("stubborn"),
    ]
    assert "hang" in cancelled


def test_a_process_that_fails_has_one_crash_report_with_what_was_done(home: Path) -> None:
    @agent_process
    async def main() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_virtual(main())
    [report] = [entry for entry in run_log(home) if entry["type"] == "crash_report"]
    assert report["who"] == "Process main#1"
    assert report["reason"] == "crashed: ValueError: broken"
    assert report["did"] == "none: it is temporary"
    assert "ValueError" in report["traceback"]


@pytest.mark.parametrize("left", [0, 700, -30])
def test_a_session_file_that_was_cut_is_mended_and_what_it_lost_is_delivered_again(home: Path, left: int) -> None:
    harness = InProcessHarness(lambda conversation: Text(f"{len(conversation.user_texts)} messages"))
    seqs: list[int] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        for number in range(3):
            await worker.ask(f"Message {number}")
        files = harness.machines[0].files
        [path] = [path for path in files if path.endswith("worker.jsonl")]
        files[path] = files[path][:left]
        await killed(harness, worker)
        await worker.ask("The last")
        seqs.extend(seqs_in(files[path].decode()))

    run_virtual(main())
    harness.check()
    texts = harness.requests[-1].conversation.user_texts
    assert [text.partition("] ")[2] for text in texts if "(ramure)" not in text] == [
        "Message 0",
        "Message 1",
        "Message 2",
        "The last",
    ]
    assert seqs == sorted(set(seqs))
    lost = [entry for entry in run_log(home) if entry["type"] == "problem" and entry.get("code") == "session_lost"]
    told = [text for text in texts if "was lost with its file" in text]
    assert len(lost) == len(told) == (0 if left == -30 else 1)
