"""A person who typed into an agent's pi, on real pi: this takes longer than a test of every day may."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from ramure.testing import ScriptedModel
from tests.e2e.conftest import stage
from tests.e2e.kit import Stage
from tests.e2e.screen import Screen
from tests.e2e.test_stalled import README

pytestmark = pytest.mark.edges

__all__ = ["stage"]


@pytest.mark.real_pi
@pytest.mark.timeout(180)
async def test_a_person_who_typed_into_pi_is_waited_for_after_leaving_the_terminal(stage: Stage) -> None:
    async with ScriptedModel(lambda _: "What shall I do?") as model:
        stage.serve(model)
        terminal = Screen(stage.run.directory, stage.environ)
        try:
            async with stage.python(README.replace("worker.send(", "asyncio.sleep(8); await worker.send(")) as program:
                await program.run_id()
                terminal.start(sys.executable, "-m", "ramure.cli", "connect", "worker")
                await model.wait_for_requests(1, timeout=60)
                await terminal.shows("What shall I do?")
                await asyncio.sleep(12)
                assert "stalled" not in program.said
                terminal.keys("typed by hand", "Enter")
                await model.wait_for_requests(2, timeout=40)
                terminal.keys("C-b", "d")
                await terminal.shows("status 0")
                await asyncio.sleep(35)  # the terminal is looked at again every 30 seconds
                assert "stalled" not in program.said
                assert len(model.requests) == 2
                program.signal(signal.SIGINT)
                await program.ends(40)
        finally:
            terminal.close()
