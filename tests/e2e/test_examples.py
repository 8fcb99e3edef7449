"""A program as users start it who keep their projects with uv. (tests/docs starts every example with `python`.)"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ramure.testing import ScriptedModel
from tests.conftest import ROOT
from tests.docs.scripts import SCRIPTS
from tests.e2e.kit import Stage


@pytest.mark.real_pi
@pytest.mark.timeout(120)
async def test_uv_run_ends_with_the_program_s_result(stage: Stage) -> None:
    # In the environment that is there, with what has been installed: as in a project that ramure was added to.
    uv = (str(Path(sys.executable).parent / "uv"), "run", "--offline", "--no-project", "--active", "--")
    async with ScriptedModel(SCRIPTS["farm"]) as model:
        stage.serve(model)
        env = {"VIRTUAL_ENV": sys.prefix, "UV_CACHE_DIR": str(stage.run.directory / "uv")}
        async with stage.start(*uv, str(ROOT / "examples" / "farm.py"), env=env) as program:
            assert await program.ends(60) == 0, program.said
    assert program.said.endswith("{'rebase': 'Old commits find a new branch.', 'tmux': 'One window, four panes.'}\n")
