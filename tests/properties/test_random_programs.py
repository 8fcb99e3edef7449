"""Random programs on simulated agents in virtual time: nothing hangs, nothing is lost, nothing is left.

``make soak`` runs 2,000 of them; here it is some hundred.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ramure.testing import InProcessHarness, run_virtual
from tests.properties.interpreter import EXPECTED, World, play, use_the_tool
from tests.properties.invariants import check
from tests.properties.programs import Program, programs
from tests.scale import examples, long_in_a_soak

LONGEST = 900.0
"""Virtual seconds that a program may take: far more than all its waits together."""


async def run_program(program: Program) -> World:
    """Run it as the root of a run, and check all that must hold then."""
    problems: list[str] = []

    def noted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problems.append(f"{context['message']}: {context.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(noted)
    world = World(InProcessHarness(use_the_tool))
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    try:
        value = await play(program, world)
    except EXPECTED:
        pass  # checked against the outcome like any other
    else:
        assert value == next(iter(world.run.processes.values())).outcome.value
    world.harness.check()
    check(world, problems)
    if descriptors:
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 3, "files are left open"
    shutil.rmtree(world.run.paths.logs)
    return world


@long_in_a_soak
@settings(
    max_examples=examples(2000),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate, Phase.shrink],  # to explain a failure takes minutes, and says little
)
@given(programs(), st.integers(0, 1000))
def test_any_program_ends_in_order_and_leaves_nothing(program: Program, seed: int) -> None:
    run_virtual(run_program(program), seed=seed, limit=LONGEST)
