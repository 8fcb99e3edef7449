"""simulate(): what it finds, what it says, that a seed is a run."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ramure import Stalled, agent, agent_process, done, emit, fail, spawn, wait
from ramure.errors import UsageError
from ramure.testing import (
    Conversation,
    Faults,
    SimulatedRun,
    SimulationFailed,
    Step,
    Text,
    ToolCall,
    always,
    at_end,
    eventually,
    simulate,
)
from tests import scale

ROOT = Path(__file__).parents[2]
NONE = Faults()


def model(conversation: Conversation) -> Step:
    """Calls finish until that is recorded."""
    if any("Recorded." in result.text for result in conversation.tool_results):
        return Text("Done.")
    return ToolCall("finish", {"summary": "it is done"})


@agent_process
async def task(sleeps: float = 0.0) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Call with your result."""
        await asyncio.sleep(sleeps)
        done(summary)
        return "Recorded."

    await worker.send("Do it, then call finish.")
    return await wait(str)


def broken(program: Any, *args: Any, faults: Faults = NONE, seeds: int = 1, **options: Any) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as failed:
        simulate(program, *args, model=model, seeds=seeds, faults=faults, **options)
    return failed.value


# -- sound programs


def test_a_sound_program_is_sound_under_all_faults() -> None:
    found = simulate(task, model=model, seeds=scale.examples(300))
    assert found.seeds == scale.examples(300)
    assert set(found.errors) <= {"AgentDied", "Stalled", "PiExited", "MachineDown"}
    assert len(found.faults) >= 8


def test_each_run_gets_a_copy_of_the_arguments() -> None:
    @agent_process
    async def program(seen: list[int]) -> list[int]:
        seen.append(1)
        return seen

    simulate(program, [], model=model, seeds=3, invariants=[lambda run: run.result == run.args[0] == [1]])


def test_time_and_chance_come_from_the_seed_and_are_given_back() -> None:
    said: list[tuple[float, float, str]] = []

    @agent_process
    async def program() -> None:
        before = time.time()
        await asyncio.sleep(3600)
        said.append((random.random(), time.time() - before, os.urandom(4).hex()))

    random.seed(7)
    state, began, threads = random.getstate(), time.monotonic(), threading.active_count()
    simulate(program, model=model, seeds=[5, 6])
    simulate(program, model=model, seeds=[5])
    assert said[0] == said[2] != said[1]
    assert said[0][1] == pytest.approx(3600)
    assert random.getstate() == state
    assert time.monotonic() - began < 3000
    assert threading.active_count() == threads


def test_several_processes_find_what_one_finds() -> None:
    one = simulate(task, model=model, seeds=6)
    two = simulate(task, model=model, seeds=6, jobs=2)
    assert (one.traces, one.faults, one.errors) == (two.traces, two.faults, two.errors)
    assert broken(failing, faults=NONE, seeds=5, jobs=2).seed == 0


# -- what is not sound


@agent_process
async def failing() -> None:
    raise KeyError("not yet")


def test_a_failure_that_no_fault_explains() -> None:
    assert "the program fails with KeyError" in str(broken(failing))
    simulate(failing, model=model, seeds=2, allow=KeyError)


def test_a_failure_without_a_fault() -> None:
    @agent_process
    async def program() -> None:
        fail("there is nothing to do")
        await wait()

    assert "fails without a fault: ProcessFailed: there is nothing to do" in str(broken(program))


def test_a_stall_is_sound_only_where_a_model_has_stopped() -> None:
    @agent_process
    async def program() -> None:
        worker = await agent("worker")

        @worker.on("report")
        async def report() -> str:
            """Call with your report."""
            return "Recorded."

        await worker.send("Do it.")
        await wait()

    stops: dict[str, Any] = {"model": lambda conversation: "I am done.", "seeds": 2}
    with pytest.raises(SimulationFailed, match="the program fails without a fault: Stalled"):
        simulate(program, faults=NONE, **stops)
    simulate(program, faults=NONE, allow=Stalled, **stops)


def test_a_model_that_repeats_itself_for_ever() -> None:
    @agent_process
    async def program() -> None:
        worker = await agent("worker")

        @worker.on("finish")
        async def finish(summary: str) -> str:
            """Call with your result."""
            return "Try again."

        await worker.send("Do it.")
        await wait()

    assert "models have been asked more than 30 times" in str(broken(program, max_requests=30))


def test_a_program_that_waits_for_what_cannot_come() -> None:
    @agent_process
    async def program() -> None:
        await asyncio.Event().wait()

    error = broken(program)
    assert "hangs: nothing has happened for 600 virtual seconds" in str(error)
    assert error.outcome.failure is not None
    assert "program" in error.outcome.failure.details


def test_a_program_that_waits_for_what_cannot_come_beside_an_agent_that_lives() -> None:
    @agent_process
    async def program() -> None:
        await agent("worker")
        await asyncio.Event().wait()

    assert "nothing has happened for 300 virtual seconds" in str(broken(program, quiet=300))


def test_a_program_that_goes_on_for_ever() -> None:
    @agent_process
    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    @agent_process
    async def slow() -> None:
        while True:
            await asyncio.sleep(3600)

    assert "after 3000 turns of the event loop" in str(broken(busy, max_turns=3000))
    assert "after 86400 virtual seconds" in str(broken(slow))


def test_a_long_wait_is_no_hang() -> None:
    @agent_process
    async def program() -> str:
        await agent("worker")
        await asyncio.sleep(7200)
        return "done"

    simulate(program, model=model, seeds=1, faults=NONE)


def test_a_child_whose_failure_nobody_has_seen() -> None:
    @agent_process
    async def program() -> str:
        spawn(failing)
        await asyncio.sleep(10)
        return "all is well"

    assert "unseen failure" in str(broken(program))


def test_a_child_whose_failure_is_seen_later_is_sound() -> None:
    @agent_process
    async def program() -> str:
        handle = spawn(failing)
        await asyncio.sleep(10)
        try:
            await handle
        except KeyError:
            return "seen"
        return "not seen"

    simulate(program, model=model, seeds=2, faults=NONE, invariants=[lambda run: run.result == "seen"])


def test_tasks_that_are_left_behind() -> None:
    kept: list[Any] = []

    @agent_process
    async def program() -> None:
        loop = asyncio.get_running_loop()
        import contextvars

        kept.append(loop.create_task(asyncio.sleep(1e5), name="mine", context=contextvars.Context()))

    assert "tasks are left behind: mine" in str(broken(program))
    kept.clear()


def test_a_script_without_an_answer_is_the_tests_own_mistake() -> None:
    with pytest.raises(SimulationFailed, match="the script is used up"):
        simulate(task, model=[ToolCall("unknown")], faults=NONE, seeds=1)


# -- invariants


def test_always_is_checked_while_it_runs() -> None:
    @agent_process
    async def program() -> None:
        for number in range(100):
            emit("step", number)
            await asyncio.sleep(1)

    def few(run: SimulatedRun) -> None:
        assert len(run.events("step")) < 5, "too many steps"

    error = broken(program, invariants=[always(few)])
    assert "always few: too many steps" in str(error)
    assert error.outcome.run.now < 6


def test_eventually_is_met_once_or_within_a_time() -> None:
    @agent_process
    async def program() -> None:
        for number in range(10):
            emit("step", number)
            await asyncio.sleep(1)

    def third(run: SimulatedRun) -> bool:
        steps = run.events("step")
        return bool(steps) and steps[-1].data == 3

    def never(run: SimulatedRun) -> bool:
        return len(run.events("step")) == 11

    simulate(program, model=model, seeds=1, invariants=[eventually(third), eventually(third, within=5)])
    assert "eventually never: never" in str(broken(program, invariants=[eventually(never)]))
    assert "eventually third: not within 2 virtual seconds" in str(
        broken(program, invariants=[eventually(third, within=2)])
    )


def test_an_invariant_sees_calls_agents_and_machines() -> None:
    def sound(run: SimulatedRun) -> None:
        assert run.succeeded
        [call] = run.calls_of("finish")
        assert (call.agent, call.arguments, call.result) == ("worker", {"summary": "it is done"}, "Recorded.")
        assert run.agents == {"worker": "ended"}
        assert run.machines == 0

    simulate(task, model=model, seeds=2, faults=NONE, invariants=[at_end(sound)])


# -- faults


@pytest.mark.parametrize(
    ("faults", "effect"),
    [
        (Faults(kill_pi="1st tool call of worker"), "worker's pi is killed"),
        (Faults(kill_machine="1st request of worker"), "worker's machine goes down"),
        (Faults(drop_link="1st tool call of worker"), "worker's connection is cut"),
        (Faults(slow="1st request of worker"), "worker's model takes"),
        (Faults(disk_full="1st request of worker"), "the logs' disk is full"),
        (Faults(provider="1st request of worker", provider_does=[529]), "worker's provider answers 529"),
        (Faults(provider="1st request of worker", provider_does=["hang"]), "worker's provider answers 'hang'"),
        (Faults(provider="1st request of worker", provider_does=["cut"]), "worker's provider answers 'cut'"),
        (Faults(provider="1st request of worker", provider_does=["empty"]), "worker's provider answers 'empty'"),
        (Faults(provider="1st request of worker", provider_does=[401]), "worker's provider answers 401"),
        (Faults(model_stops="1st request of worker"), "worker's model stops with"),
        (Faults(handler_raises="1st tool call of worker"), "the handler of worker's call raises"),
        (Faults(duplicate_call=["2nd request of worker"]), "worker's model makes its last call once more"),
        (Faults(reorder="1st request of worker"), "worker's connection is"),
        (Faults(clock_jump="1st request of worker"), "the wall clock jumps"),
    ],
    ids=lambda value: value.split("'s ")[-1] if isinstance(value, str) else "",
)
def test_each_fault_happens_at_its_moment_and_a_sound_program_stands_it(faults: Faults, effect: str) -> None:
    seen: list[str] = []

    def look(run: SimulatedRun) -> None:
        seen.extend(fault.effect for fault in run.faults)

    simulate(task, 30.0, model=model, seeds=3, faults=faults, invariants=[at_end(look)])
    assert seen
    assert all(each.startswith(effect) for each in seen)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kill_pi": 1.5}, "a probability is between 0 and 1"),
        ({"kill_pi": "second call of worker"}, "is no moment"),
        ({"handler_raises": "1st request of worker"}, "handler_raises happens at a tool call"),
        ({"provider_does": ["sleep"]}, "give an HTTP status"),
    ],
)
def test_faults_that_cannot_be_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Faults(**arguments)


def test_some_faults_alone() -> None:
    alone = Faults.usual().only("kill_pi", "slow")
    assert (alone.kill_pi, alone.slow, alone.provider) == (0.06, 0.05, 0.0)
    with pytest.raises(UsageError, match="there is no fault kill_py"):
        Faults.usual().only("kill_py")


def test_a_failure_is_shrunk_to_the_faults_that_it_needs() -> None:
    def no_kill(run: SimulatedRun) -> bool:
        return "kill_pi" not in [fault.kind for fault in run.faults]

    error = broken(task, faults=Faults.usual(), seeds=200, invariants=[at_end(no_kill)])
    assert [fault.kind for fault in error.outcome.run.faults] == ["kill_pi"]
    assert error.outcome.window == (0, 0)
    assert len(str(error).splitlines()) <= 12


# -- a seed is a run

SAME = 200 if scale.SOAK else 8

TRACES = """
from tests.simulation.test_simulate import model, task
from ramure.testing import simulate
for seed, trace in simulate(task, 2.0, model=model, seeds={seeds}).traces.items():
    print(seed, trace)
"""


def python(*args: str, cwd: Path = ROOT, hash_seed: str, **more: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_the_same_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    program = TRACES.format(seeds=SAME)
    one, two = (python("-c", program, hash_seed=seed) for seed in ("1", "4711"))
    assert len(one.splitlines()) == SAME
    assert one == two


USERS = '''
from ramure import agent, agent_process, done, wait
from ramure.testing import Conversation, Faults, Text, ToolCall, simulate

def model(conversation: Conversation):
    answers = [result.text for result in conversation.tool_results]
    if "Recorded." in answers:
        return Text("Done.")
    return ToolCall("finish") if "paid" in answers else ToolCall("pay", {"order": "A7"})

@agent_process
async def shop(paid: list[str]) -> None:
    clerk = await agent("clerk")

    @clerk.on("pay")
    async def pay(order: str) -> str:
        """Pay an order."""
        paid.append(order)
        return "paid"

    @clerk.on("finish")
    async def finish() -> str:
        """Call when it is paid."""
        done()
        return "Recorded."

    await clerk.send("Pay order A7, then call finish.")
    await wait()

def test_shop():
    def once(run):
        assert len(run.args[0]) < 2, f"paid: {run.args[0]}"

    simulate(shop, [], model=model, seeds=1000, faults=Faults(duplicate_call=0.2, slow=0.2), invariants=[once])
'''


@pytest.mark.timeout(200)
def test_a_users_test_tells_its_story_and_is_replayed_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(USERS)
    said = python("-m", "pytest", "-q", "test_shop.py", cwd=tmp_path, hash_seed="1")
    story = _story(said)
    assert "at_end once: paid: ['A7', 'A7']" in story[0]
    assert 3 < len(story) <= 12
    replay = story[-1].removeprefix("replay: ")
    assert replay.startswith("pytest test_shop.py::test_shop --ramure-seed 0x")
    assert _story(python("-m", *replay.split(), cwd=tmp_path, hash_seed="99")) == story


def _story(said: str) -> list[str]:
    lines = [line.removeprefix("E").strip() for line in said.splitlines() if line.startswith("E  ")]
    return [line.rpartition("SimulationFailed: ")[2] for line in lines]


def test_a_seed_that_is_no_number_is_refused(tmp_path: Path) -> None:
    said = python("-m", "pytest", "--ramure-seed", "x", cwd=tmp_path, hash_seed="1")
    assert "--ramure-seed x: give a number, such as 24301 or 0x5eed" in said
