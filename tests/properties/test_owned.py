"""What a process owns, where the order of things matters: agents, streams of threads, supervised children."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

import ramure
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.process.scope import current_process
from ramure.runtime.trees.supervision import ChildrenFailed, GaveUp
from ramure.testing import InProcessHarness, run_virtual, virtual_time
from tests.properties.interpreter import Boom, use_the_tool


def _me() -> ProcessRecord:
    record = current_process()
    assert record is not None
    return record


@virtual_time()
async def test_agents_of_a_killed_process_end_before_it() -> None:
    harness = InProcessHarness(use_the_tool)

    @ramure.agent_process
    async def owner() -> None:
        await ramure.agent("worker")
        ramure.emit("ready")
        await ramure.wait()

    @ramure.agent_process(image=harness.image)
    async def main() -> tuple[bool, bool]:
        handle = ramure.spawn(owner)
        await handle.events.listen_for("ready")
        worker = handle.agents["worker"]
        (await handle.ref()).exit("kill")
        await handle.events.listen_for("failed")
        assert worker._record.ref is not None
        return worker._record.ref.is_alive(), worker.events.closed

    assert await main() == (False, True)


@virtual_time()
async def test_wait_raises_when_an_agent_dies_for_good() -> None:
    harness = InProcessHarness(use_the_tool)

    @ramure.agent_process(image=harness.image)
    async def main() -> None:
        worker = await ramure.agent("worker", restart="temporary")
        asyncio.get_running_loop().call_later(1.0, harness.kill, worker.address)
        with pytest.raises(ramure.AgentDied, match="worker"):
            await ramure.wait()

    await main()


@virtual_time()
async def test_emits_that_arrive_in_another_order_are_in_the_stream_at_once() -> None:
    @ramure.agent_process
    async def child() -> None:
        record = _me()
        assert record.recorder is not None
        for number in (1, 0, 3, 2):  # as from two threads: each took its number, the second was delivered first
            record.recorder.arrived(number, "e", number, 0.0)
        await ramure.wait()

    @ramure.agent_process
    async def main() -> list[int]:
        handle = ramure.spawn(child)
        await handle.events.listen_for("e", where=lambda event: event.data == 3, timeout=1)
        seen = [event.data for event in handle.events.snapshot()]
        await handle.cancel()
        return seen

    assert await main() == [0, 1, 2, 3]


def _flaky(left: dict[str, int]) -> ramure.api.AgentProcess[[str], str]:
    @ramure.agent_process
    async def flaky(spec: str) -> str:
        ramure.expose(lambda: spec, name="spec")
        await asyncio.sleep(1)
        if left.get(spec, 0):
            left[spec] -= 1
            raise Boom(spec)
        return spec.upper()

    return flaky


@pytest.mark.parametrize("seed", range(5))
def test_a_farm_restarts_two_of_five(seed: int) -> None:
    @ramure.agent_process
    async def main() -> tuple[dict[str, str], Counter[str], list[str]]:
        flaky = _flaky({"b": 1, "d": 1})
        farm = await ramure.supervise(*(ramure.child(flaky, spec, id=spec) for spec in "abcde"))
        await farm.events.listen_for("restarted", where=lambda event: event.source == "b")
        assert await farm["b"].call("spec") == "b"
        result = await farm
        kinds = Counter(event.type for event in farm.events.snapshot() if event.source is not None)
        return result, kinds, [event.type for event in farm["b"].events.snapshot()]

    result, kinds, of_b = run_virtual(main(), seed=seed)
    assert result == {spec: spec.upper() for spec in "abcde"}
    assert kinds == {"child_started": 5, "restarted": 2, "done": 5}
    assert of_b == ["child_started", "restarted", "done"]


@pytest.mark.parametrize("seed", range(5))
def test_a_farm_gives_up(seed: int) -> None:
    @ramure.agent_process
    async def main() -> list[str]:
        farm = await ramure.supervise(ramure.child(_flaky({"a": 9}), "a", id="a"), max_restarts=2)
        with pytest.raises(GaveUp, match="'a'") as caught:
            await farm
        assert isinstance(caught.value.__cause__, Boom)
        return [event.type for event in farm["a"].events.snapshot()]

    assert run_virtual(main(), seed=seed) == ["child_started", "restarted", "restarted", "failed"]


@virtual_time()
async def test_a_farm_without_restarts_says_who_failed_and_what_the_others_returned() -> None:
    @ramure.agent_process
    async def main() -> None:
        flaky = _flaky({"b": 1})
        farm = await ramure.supervise(*(ramure.child(flaky, spec, id=spec, restart="temporary") for spec in "ab"))
        with pytest.raises(ChildrenFailed) as caught:
            await farm
        assert caught.value.results == {"a": "A"}
        assert isinstance(caught.value.failures["b"], Boom)

    await main()
