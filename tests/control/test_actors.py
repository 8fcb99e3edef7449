"""Looking into the actors of a live run from outside, and acting on them: over its socket, as ``ramure.attach``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import ramure
from ramure import agent, agent_process
from ramure.actors import Actor, Ref
from ramure.runtime.control.errors import RequestFailed
from ramure.runtime.run.run import Run, RunFailed
from ramure.supervisors import ChildSpec, Supervisor
from ramure.testing import InProcessHarness, Text, ToolCall, Usage
from tests.control.kit import in_run, raw


class Worker(Actor):
    """Passes on numbers, each less by one, to the next of a ring."""

    async def init(self) -> None:
        self.next: Ref[Any] = self.ref
        self.gate = asyncio.Event()

    async def block(self) -> None:
        await self.gate.wait()

    async def add(self, one: int, other: int) -> int:
        return one + other

    def handle_info(self, message: Any) -> None:
        if isinstance(message, int) and message:
            self.next.tell(message - 1)


async def pair(run: Run) -> tuple[Ref[Any], Ref[Any]]:
    reaper = await run.system.options(label="reaper").start(
        Supervisor, [ChildSpec("one", Worker), ChildSpec("two", Worker)], intensity=4
    )
    two, one = [child.ref for child in await reaper.proxy().which_children()]
    return one, two


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def refused(work: Any, kind: str, *texts: str) -> None:
    with pytest.raises(RequestFailed) as failed:
        await work
    assert failed.value.kind == kind, failed.value
    for text in texts:
        assert text in str(failed.value)


async def test_the_tree_of_a_run_with_its_agent() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach(run.execution_id) as there:
            rows = {row.label: row for row in await there.tree()}
            assert rows["run"].depth == 0
            assert rows["worker"].kind == "AgentActor"
            assert rows["worker"].doing == "idle"
            assert rows["pi of worker"].path == (
                "run/processes/main#1/agents of main#1/worker/session of worker/pi of worker"
            )
            assert {row.id for row in rows.values()} >= {ref.id for ref in (run.root, run.tmux)}

    await in_run(look, "worker")


async def test_an_agent_and_a_process_are_inspected() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            worker = await there.inspect("worker")
            assert worker.agent is not None
            assert (worker.agent["state"], worker.agent["connected"], worker.agent["restarts"]) == ("idle", True, 0)
            assert worker.specification is not None
            assert worker.specification.restart == "temporary"
            assert "state" in worker.events[0]
            main = await there.inspect("main#1")
            assert main.process is not None
            assert main.process["agents"] == ["worker"]
            agents = await there.inspect("agents of main#1")
            assert agents.supervision is not None
            assert [child.id for child in agents.supervision.children] == ["worker"]
            session = await there.inspect("session of worker")
            assert session.supervision is not None
            assert (session.supervision.strategy, session.supervision.intensity) == ("one_for_one", 3)
            text = str(await there.request("inspect", actor="pi of worker"))
            assert "Launch(" in text

    await in_run(look, "worker")


async def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2-is-long-enough")

    async def look(run: Run) -> None:
        one, _ = await pair(run)
        one._cell.actor.note = {"key": "hunter2-is-long-enough"}  # type: ignore[attr-defined]
        async with ramure.attach() as there:
            assert "hunter2" not in str(await there.inspect("one"))
            assert (await there.inspect("one")).attributes["note"] == "{'key': '[secret]'}"  # type: ignore[index]
            async with there.trace("one", limit=1) as trace:
                one.tell("x" * 180 + "hunter2-is-long-enough")
                assert ["hunter2" in str(record) async for record in trace] == [False]
            pi = str(await there.inspect("pi of worker"))
            launch = next(cell for cell in run.system.cells.values() if cell.given_label == "pi of worker")
            assert launch.actor.launch.token not in pi  # type: ignore[attr-defined]

    await in_run(look, "worker")


async def test_what_fits_none_or_several_is_refused_with_candidates() -> None:
    async def look(run: Run) -> None:
        await pair(run)
        await pair(run)
        async with ramure.attach() as there:
            await refused(there.inspect("onne"), "NoSuchActor", "did you mean one")
            await refused(there.inspect("one"), "AmbiguousActor", "fits 2 actors", "reaper/one")
            await refused(there.kill("reaper/*"), "AmbiguousActor")
            await refused(there.suspend("#999999"), "NoSuchActor")
            await refused(there.inspect(""), "NoSuchActor")
            await refused(there.why("nobody-at-all"), "NoSuchActor")

    await in_run(look)


async def test_a_trace_is_whole_in_order_and_off_afterwards() -> None:
    async def look(run: Run) -> None:
        one, two = await pair(run)
        async with ramure.attach() as there:
            async with there.trace("one", show=["messages"]) as trace:
                for number in range(10_000):
                    one.tell((number,))
                seen = []
                async for record in trace:
                    seen.append(record.value)
                    if len(seen) + trace.dropped == 10_000:
                        break
                assert trace.dropped == 0
                assert seen == [f"({number},)" for number in range(10_000)]
                assert two._cell.probe is None
            await until(lambda: one._cell.probe is None)
            assert not run.system.tracers

    await in_run(look)


async def test_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramure.runtime.control.actors.TRACE_KEPT", 100)

    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with ramure.attach() as there, there.trace("one", show=["messages"]) as trace:
            for number in range(10_000):
                one.tell((number,))
            seen = []
            async for record in trace:
                seen.append(int(str(record.value).strip("(),")))
                if len(seen) == 100:
                    one.tell((10_000,))
                if seen[-1] == 10_000:
                    break
            assert seen == [*range(100), 10_000]
            assert trace.dropped == 9_900

    await in_run(look)


async def test_calls_and_signals_can_be_traced_alone_and_limited() -> None:
    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with ramure.attach() as there:
            async with there.trace("one", show=["calls"], limit=2) as trace:
                one.tell("not a call")
                assert await one.proxy().add(1, 2) == 3
                records = [record async for record in trace]
            assert [(record.kind, record.value) for record in records] == [
                ("sent", "ask add(1, 2)"),
                ("replied", "ask add(1, 2)"),
            ]
            async with there.trace("reaper/*", show=["signals"], limit=3) as trace:
                one.tell("not a signal")
                one.exit("enough")
                records = [record async for record in trace]
            assert [(record.kind, record.value) for record in records] == [
                ("signal", "enough"),
                ("ended", "enough"),
                ("started", None),  # its successor, in the same place
            ]
            assert records[2].actor.id != one.id

    await in_run(look)


async def test_a_client_that_vanishes_ends_its_trace() -> None:
    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with raw(run) as client:
            assert await client.ask("trace", {"actor": "one"}) == [1, "item", []]
            assert one._cell.probe is not None
            client.writer.transport.abort()
        await until(lambda: one._cell.probe is None and not run.system.tracers)
        async with raw(run) as client:  # one that never reads
            await client.ask("trace", {"actor": "one"})
            for _ in range(20_000):
                one.tell("x" * 200)
            await asyncio.sleep(0.2)
        await until(lambda: one._cell.probe is None)

    await in_run(look)


def test_the_benchmark_of_traces_hooks_no_other_actor() -> None:
    from benchmarks.trace import measured

    found = measured(actors=50, pairs=1, seconds=0.2)
    assert found.others == 0
    assert found.events > 0
    assert found.ratio > 0.1  # a hard figure is for `python -m benchmarks trace`


async def test_recording_is_switched_on_and_off() -> None:
    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with ramure.attach() as there:
            assert (await there.inspect("one")).messages is None
            await there.inspect("one", record=True)
            await one.proxy().add(3, 4)
            details = await there.inspect("one")
            assert details.messages is not None
            assert "ask add(3, 4)" in [record.value for record in details.messages]
            assert details.statistics is not None
            assert details.statistics["handled"] >= 1
            assert (await there.inspect("one", record=False)).messages is None
            assert one._cell.probe is None

    await in_run(look)


async def test_kill_ends_and_says_what_follows() -> None:
    async def look(run: Run) -> None:
        one, two = await pair(run)
        async with ramure.attach() as there:
            deed = await there.kill("one")
            assert (deed.id, deed.ended, deed.reason, deed.then) == (one.id, True, "killed", "reaper starts it again")
            deed = await there.kill("two", "disk is to be changed")
            assert deed.reason == "disk is to be changed"
            assert two._cell.reason == "disk is to be changed"
            async with asyncio.timeout(30):
                while not (story := await there.why("two")).deaths:
                    await asyncio.sleep(0.05)
            assert story.headline.startswith(
                "two died: disk is to be changed; by hand: kill: disk is to be changed; restart (one_for_one)"
            )
            deed = await there.kill("worker", "shutdown")
            assert (deed.ended, deed.reason) == (True, "shutdown")
            assert deed.then == "agents of main#1 does not start it again: it is temporary"
            await until(lambda: "worker" not in run.agents)

    await in_run(look, "worker")


async def test_a_killed_pi_is_restarted_at_the_first_try() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            worker = run.agents["worker"]
            assert (await there.kill("pi of worker")).then == "session of worker starts it again"
            await until(lambda: worker.ref._cell.actor.restarts == 1 and worker.ref._cell.actor.state == "idle")  # type: ignore[union-attr]
            story = await there.why("worker")
            assert (story.deaths, story.restarts) == (1, 1)
            assert "killed" in story.headline

    await in_run(look, "worker")


async def test_suspend_and_resume() -> None:
    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with ramure.attach() as there:
            await there.suspend("one")
            one.tell("later")
            details = await there.inspect("one")
            assert (details.actor.state, details.actor.mailbox) == ("suspended", 1)
            await there.resume_actor("one")
            await until(lambda: not one._cell.queue)
            assert (await there.inspect("one")).actor.state == "idle"
            blocked = asyncio.ensure_future(one.proxy(timeout=None).block())
            await until(lambda: one._cell.state == "busy")
            one._cell.actor.gate.set()  # type: ignore[attr-defined]
            await blocked

    await in_run(look)


async def test_restart_renews_an_actor_and_an_agents_pi() -> None:
    async def look(run: Run) -> None:
        one, _ = await pair(run)
        async with ramure.attach() as there:
            for _ in range(9):  # intensity is 4: it is not counted
                deed = await there.restart("one")
                assert deed.old is not None
                assert deed.new is not None
                assert deed.new > deed.old >= one.id
            worker = run.agents["worker"]
            before = worker.ref
            deed = await there.restart("worker")
            assert deed.actor == "worker"
            await until(lambda: worker.ref._cell.actor.state == "idle" and worker.ref._cell.actor.restarts == 1)  # type: ignore[union-attr]
            assert worker.ref is before
            story = await there.why("worker")
            assert story.deaths + story.restarts >= 1
            await refused(there.restart("main#1"), "ChildTemporary", "start another one")
            await refused(there.restart("log"), "UsageError", "part of the run itself")
            await refused(there.restart("session of worker"), "UsageError", "no supervisor")

    await in_run(look, "worker")


async def test_top_shows_who_is_at_work() -> None:
    async def look(run: Run) -> None:
        one, two = await pair(run)
        blocked = asyncio.ensure_future(two.proxy(timeout=None).block())
        await until(lambda: two._cell.state == "busy")
        for _ in range(7):
            two.tell("wait")
        one.tell(10**9)
        async with ramure.attach() as there:
            async for top in there.top(every=0.3):
                busiest = {row["label"]: row for row in top.busiest}
                if "one" in busiest and busiest["one"]["handled_per_second"] > 0:
                    break
            assert busiest["two"]["busy"] > 0.9
            assert top.longest_mailboxes[0]["label"] == "two"
            assert top.longest_mailboxes[0]["mailbox"] == 7
            assert [agent["address"] for agent in top.agents] == ["worker"]
            assert top.actors == len(run.system.actors())
            json.dumps(top.busiest)
        await until(lambda: all(cell.probe is None for cell in run.system.cells.values()))
        one.exit("kill")
        two._cell.actor.gate.set()  # type: ignore[attr-defined]
        await blocked

    await in_run(look, "worker")


async def test_top_counts_an_agent_that_works_as_busy_and_the_tokens_of_the_last_minute() -> None:
    harness = InProcessHarness([[ToolCall("look"), Usage(input=200, output=20)], Text("Seen.")])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker, seen = await agent("worker"), asyncio.Event()

        @worker.on("look")
        async def look() -> str:
            """Look at it."""
            await seen.wait()
            return "Seen."

        await worker.send("Look.")
        await worker.events.listen_for("tool_call")
        async with ramure.attach() as there:
            shown = 0
            async for top in there.top(every=0.1):
                [busiest] = [row for row in top.busiest if row["label"] == "worker"]
                assert (busiest["state"], busiest["busy"] > 0.9, busiest["doing"]) == ("busy", True, "look")
                assert top.agents[0]["tokens_per_minute"] == 220  # also when none was used since the last time
                shown += 1
                if shown == 3:
                    break
        seen.set()

    await main()


async def test_a_run_can_be_ended_by_its_root() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            deed = await there.kill("run", "enough")
            assert (deed.actor, deed.ended) == ("run", False)
            await asyncio.Event().wait()

    with pytest.raises(RunFailed, match="enough"):
        await in_run(look, "worker")


async def test_a_run_whose_part_dies_fails_and_does_not_hang() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            await there.kill("gateway")
            await asyncio.Event().wait()

    with pytest.raises(RunFailed, match="its gateway ended: killed"):
        await in_run(look, "worker")
