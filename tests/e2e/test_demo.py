"""``ramure demo``: ten haikus by a real pi in real tmux, on the model that the user has, or on the scripted one."""

from __future__ import annotations

import json
import re

import pytest

from ramure.cli.commands.demo import HAIKUS, scripted
from ramure.testing import ScriptedModel
from tests.e2e.kit import Program, Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(150)]


def haikus(program: Program) -> list[str]:
    """The haikus that the demo printed at its end, each of three lines."""
    return [haiku for haiku in HAIKUS if haiku.replace("\n", "\r\n") in program.said or haiku in program.said]


async def test_it_ends_by_itself_with_ten_haikus(any_stage: Stage) -> None:
    async with any_stage.ramure("demo") as program:
        assert await program.ends(100) == 0, program.said
        said = program.said
    assert len(haikus(program)) == 10
    assert f"demo: pi {any_stage.toolchain.pi_version} on Node" in said
    assert "pi works in tmux session 'poet'" in said
    assert "model: the scripted one that comes with ramure (you have none)" in said
    assert said.count("calls submit_haiku") == 10


async def test_a_model_that_the_user_has_configured_is_used(stage: Stage) -> None:
    async with ScriptedModel(scripted) as model:
        stage.serve(model)
        async with stage.ramure("demo") as program:
            assert await program.ends(100) == 0, program.said
        assert len(model.requests) >= 10
    assert len(haikus(program)) == 10
    assert f"model: your own, {model.model}" in program.said


async def test_a_key_in_the_environment_reaches_the_provider(stage: Stage) -> None:
    """A provider of the user's models.json whose key is a variable: pi resolves it from its own environment."""
    async with ScriptedModel(scripted) as model:
        stage.serve(model)
        config = stage.run.directory / "agent" / "models.json"
        providers = json.loads(config.read_text())
        providers["providers"]["scripted"]["apiKey"] = "$POETS_API_KEY"
        config.write_text(json.dumps(providers))
        async with stage.ramure("demo", env={"POETS_API_KEY": "sk-poet"}) as program:
            assert await program.ends(100) == 0, program.said
        assert len(model.requests) >= 10
    assert re.search("model: your own", program.said)
