"""The directory that an agent works in is removed: said at once when pi ends, and not after restarts into a dialog."""

from __future__ import annotations

import pytest

from ramure.testing import Hang, ScriptedModel
from tests.e2e.kit import Stage

PROGRAM = """
import asyncio, os, shutil, signal, time
from pathlib import Path
from ramure import AgentDied, LocalImage, MachineDown, agent, agent_process, wait

@agent_process(image=LocalImage(workdir=os.environ["WORKDIR"]))
async def main():
    worker = await agent("worker")
    await worker.send("Begin.")
    mine = "pgrep -n -f -- [-]-session.*" + os.environ["RAMURE_HOME"]  # and not the pi of a test beside this one
    pid = int((await worker.exec(mine)).stdout)
    shutil.rmtree(os.environ["WORKDIR"])
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    try:
        await wait()
    except AgentDied as died:
        assert isinstance(died.__cause__, MachineDown), repr(died.__cause__)
        print("died", died)
        print("soon", time.monotonic() - began < 40)

asyncio.run(main())
"""


@pytest.mark.real_pi
@pytest.mark.timeout(180)
async def test_a_workdir_that_is_removed_is_a_machine_that_is_down(stage: Stage) -> None:
    workdir = stage.run.directory / "workdir"
    workdir.mkdir()
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM, env={"WORKDIR": str(workdir)}) as program:
            assert await program.ends(120) == 0, program.said
    assert f"its working directory {workdir} was removed" in program.said
    assert "soon True" in program.said
