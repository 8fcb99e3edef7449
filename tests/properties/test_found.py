"""Programs that random ones have shrunk to: what once went wrong, each under several orders of its tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import ramure
from ramure.runtime.supervision import ChildrenFailed
from ramure.testing import run_virtual
from tests.properties.programs import Attach, Cleanup, Emit, Exit, ExitSelf, Program, Sleep, Spawn, Step, Task
from tests.properties.test_random_programs import LONGEST, run_program


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))


def _child(*steps: Step) -> Spawn:
    return Spawn(Program(steps), bubbled=True)


FOUND: dict[str, tuple[Step, ...]] = {
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
    "a task that is refused is no warning": (_child(Cleanup((Sleep(1.0),), 0.0, swallow=True), Task(())), Sleep(0.5)),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    for seed in range(10):
        run_virtual(run_program(Program(FOUND[name])), seed=seed, limit=LONGEST)


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
