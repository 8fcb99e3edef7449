"""Our answer to "is a model configured?" beside real pi's own (`pi --list-models`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ramure.agents.pi.toolchain import Toolchain, model_configured
from ramure.agents.pi.toolchain.models import PROVIDER_VARIABLES

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(60)]

CASES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "a key in the environment": ({"ANTHROPIC_API_KEY": "x"}, {}),
    "an AWS profile": ({"AWS_PROFILE": "x"}, {}),
    "half of an AWS key": ({"AWS_ACCESS_KEY_ID": "x"}, {}),
    "a key in auth.json": ({}, {"auth.json": {"openai": {"type": "api_key", "key": "x"}}}),
    "a reference to nothing in auth.json": ({}, {"auth.json": {"openai": {"type": "api_key", "key": "$NOT_SET"}}}),
    "a server in models.json": (
        {},
        {
            "models.json": {
                "providers": {
                    "own": {
                        "baseUrl": "http://127.0.0.1:9/v1",
                        "api": "openai-completions",
                        "apiKey": "x",
                        "models": [{"id": "m"}],
                    }
                }
            }
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ramure_and_pi_agree(case: str, toolchain: Toolchain, tmp_path: Path) -> None:
    variables, files = CASES[case]
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    environ = {k: v for k, v in os.environ.items() if k not in PROVIDER_VARIABLES}
    environ |= {"HOME": str(tmp_path), "PI_CODING_AGENT_DIR": str(tmp_path), "PI_OFFLINE": "1", **variables}
    done = subprocess.run(
        [*toolchain.pi_argv, "--list-models"], env=environ, capture_output=True, text=True, timeout=50, check=False
    )
    pis_answer = "No models available" not in done.stdout + done.stderr
    assert model_configured(environ) is pis_answer
