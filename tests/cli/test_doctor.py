from __future__ import annotations

import json
from typing import Any

from tests.agents.toolchain import stubs
from tests.cli.conftest import Command


def checks(ramure: Command) -> dict[str, dict[str, Any]]:
    done = ramure("doctor", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    assert done.stderr == ""
    return {check["name"]: check for check in said["checks"]}


def healthy(ramure: Command) -> None:
    stubs.tmux(ramure.bin)
    stubs.node(ramure.bin, "22.19.0")
    stubs.pi(ramure.bin, "0.87.1")
    ramure.environ["ANTHROPIC_API_KEY"] = "sk-canary"


def test_all_is_well(ramure: Command) -> None:
    healthy(ramure)
    found = checks(ramure)
    assert set(found) == {"python", "tmux", "node", "pi", "model", "home"}
    assert all(check["ok"] and not check["remedy"] for check in found.values())
    assert ramure("doctor").returncode == 0


def test_on_an_empty_host_every_lack_has_its_remedy(ramure: Command) -> None:
    found = checks(ramure)
    assert {name for name, check in found.items() if not check["ok"]} == {"tmux", "pi", "model"}
    assert found["pi"]["remedy"] == "ramure setup"
    assert "tmux" in found["tmux"]["remedy"]
    assert "/login" in found["model"]["remedy"]
    done = ramure("doctor")
    assert done.returncode == 1
    assert "MISSING  pi " in done.stdout
    assert "mend it: ramure setup" in done.stdout


def test_a_node_that_does_not_fit_is_named(ramure: Command) -> None:
    healthy(ramure)
    stubs.node(ramure.bin, "20.20.2")
    found = checks(ramure)
    assert not found["node"]["ok"]
    assert "needs Node 22.19.0 or newer" in found["node"]["found"]


def test_a_home_that_others_can_read_is_mended_with_chmod(ramure: Command) -> None:
    healthy(ramure)
    home = ramure.home / "ramure"
    home.mkdir()
    home.chmod(0o755)
    found = checks(ramure)
    assert found["home"]["remedy"] == f"chmod 700 {home}"
    home.chmod(0o700)
    assert checks(ramure)["home"]["ok"]


def test_keys_are_named_and_never_shown(ramure: Command) -> None:
    healthy(ramure)
    agent = ramure.home / ".pi" / "agent"
    agent.mkdir(parents=True)
    (agent / "auth.json").write_text(json.dumps({"openai": {"type": "api_key", "key": "sk-canary"}}))
    for said in (ramure("doctor").stdout, ramure("doctor", "--json").stdout):
        assert "ANTHROPIC_API_KEY" in said
        assert "openai (auth.json)" in said
        assert "canary" not in said
