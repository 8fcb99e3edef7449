"""Programs that random ones have shrunk to: what once went wrong, each under several orders of its tasks."""

from __future__ import annotations

import asyncio
import gc

import pytest

import ramure
from ramure.runtime.trees.supervision import ChildrenFailed
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, run_virtual
from tests.properties.programs import (
    Attach,
    Cancel,
    Cleanup,
    Done,
    Emit,
    Exit,
    ExitSelf,
    Fail,
    Program,
    Sleep,
    Spawn,
    Step,
    Supervise,
    Task,
)
from tests.properties.test_random_programs import LONGEST, run_program


def _child(*steps: Step) -> Spawn:
    return Spawn(Program(steps), bubbled=True)


def _tree(strategy: str, restart: str, *children: tuple[Step, ...]) -> Supervise:
    return Supervise(tuple((Program(steps), restart) for steps in children), strategy, 2, bubbled=True)


FOUND: dict[str, tuple[Step, ...]] = {
    "an agent whose process is killed before its start has begun frees its address": (
        _child(Emit(), Emit(), _child(Exit(0, "kill")), Attach(0, "x")),
        Sleep(0.0),
        Emit(),
        Cancel(0),
    ),
    "an agent that is being started when its process ends frees its name": (_child(Attach(0, "x")), Sleep(0.5)),
    "a child that is being started when its parent is killed ends before it": (_child(Emit()), ExitSelf("kill")),
    "children of a killed parent end before it, and their events are its": (
        _child(_child(Cleanup((Sleep(2.0),), 1.0, swallow=False)), Sleep(0.0), ExitSelf("kill")),
        Sleep(3.0),
    ),
    "the ending of a child that is killed with its parent is the parent's event too": (
        _child(Sleep(0.0), Exit(0, "kill")),
        Emit(),
        ExitSelf("kill"),
    ),
    "a task that is cancelled before its first step is no warning": (Task((Emit(),)),),
    "a child that is being started again when its tree is stopped ends after that": (
        _child(
            Sleep(0.0),
            Supervise(
                ((Program(()), "transient"), (Program((ExitSelf("kill"),)), "transient")),
                "one_for_all",
                1,
                bubbled=False,
            ),
        ),
        Sleep(0.5),
    ),
    "a tree that is stopped while it starts gives each of its places an ending": (
        _child(_tree("rest_for_one", "transient", (Sleep(0.5),), ()), Done()),
        Sleep(0.5),
    ),
    "a tree that is stopped during its work gives each of its places an ending": (
        _child(
            _tree("one_for_one", "transient", (Sleep(5.0),), (Cleanup((Sleep(5.0),), 1.0, swallow=False),)), Sleep(1.0)
        ),
        Sleep(3.0),
    ),
    "a tree that is killed gives each of its places an ending": (
        _tree("one_for_one", "permanent", (Sleep(5.0),), (Sleep(0.5),)),
        Sleep(0.2),
        Exit(0, "kill"),
        Sleep(1.0),
    ),
    "what is done may be started again with another one, and is not done before it cannot": (
        _tree("one_for_all", "transient", (), (Sleep(0.5), Fail())),
        Sleep(5.0),
    ),
    "a task that is refused is no warning": (_child(Cleanup((Sleep(1.0),), 0.0, swallow=True), Task(())), Sleep(0.5)),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    for seed in range(10):
        run_virtual(run_program(Program(FOUND[name])), seed=seed, limit=LONGEST)


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("what", ["agent", "machine"])
def test_what_is_asked_for_in_the_moment_of_a_kill_leaves_no_coroutine_unawaited(what: str, steps: int) -> None:
    """pytest makes the warning of an unawaited coroutine an error, once it has been collected."""
    harness = InProcessHarness([])

    @ramure.agent_process
    async def killed() -> None:
        asking = ramure.agent("worker") if what == "agent" else ramure.machine()
        asked = asyncio.ensure_future(asking)
        for _ in range(steps):
            await asyncio.sleep(0)
        ramure.self_ref().exit("kill")
        await asked

    @ramure.agent_process(image=harness.image)
    async def main() -> str:
        handle = ramure.spawn(killed)
        ending = await handle.events.listen_for("failed")
        return str(ending.data)

    assert run_virtual(main()).endswith("killed")
    gc.collect()


def test_a_call_that_waits_for_a_restart_ends_when_the_tree_does() -> None:
    @ramure.agent_process
    async def breaks() -> None:
        raise ValueError("broken")

    @ramure.agent_process
    async def main() -> None:
        backoff = Backoff(first=60, jitter=0)
        tree = await ramure.supervise(ramure.child(breaks, id="a"), backoff=backoff)
        await asyncio.sleep(1)
        call = asyncio.create_task(tree["a"].call("anything"))
        await asyncio.sleep(1)
        await tree.cancel()
        with pytest.raises(ramure.ProcessEnded):
            await call
        assert [event.type async for event in tree["a"].events] == ["child_started", "failed"]

    run_virtual(main())


def test_a_supervised_child_that_is_killed_has_failed() -> None:
    @ramure.agent_process
    async def sleeper() -> None:
        await asyncio.sleep(60)

    @ramure.agent_process
    async def main() -> list[str]:
        tree = await ramure.supervise(ramure.child(sleeper, id="a", restart="temporary"))
        await tree.events.listen_for("child_started")
        record = tree["a"]._slot.record
        assert record is not None
        assert record.ref is not None
        record.ref.exit("kill")
        with pytest.raises(ChildrenFailed, match="'a'"):
            await tree
        return [event.type for event in tree["a"].events.snapshot()]

    assert run_virtual(main()) == ["child_started", "failed"]
