"""Whether pi has a model, by pi's own rules: auth.json, models.json, the environment; settings.json for the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ramure.agents.pi.toolchain import agent_dir, model_config, model_configured


class Directory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": "/nonexistent", "PI_CODING_AGENT_DIR": str(path)}

    def write(self, name: str, value: Any) -> None:
        self.path.mkdir(exist_ok=True)
        (self.path / name).write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def pi(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "agent")


def test_nothing_is_configured_in_an_empty_home(pi: Directory) -> None:
    config = model_config(pi.environ)
    assert (config.configured, config.default, dict(config.providers), config.problems) == (False, None, {}, ())


def test_pis_directory_is_in_the_home_unless_the_variable_says_otherwise() -> None:
    assert agent_dir({"HOME": "/home/u"}) == Path("/home/u/.pi/agent")
    assert agent_dir({"HOME": "/home/u", "PI_CODING_AGENT_DIR": "/elsewhere"}) == Path("/elsewhere")


@pytest.mark.parametrize(
    ("variables", "provider"),
    [
        (["ANTHROPIC_API_KEY"], "anthropic"),
        (["OPENAI_API_KEY"], "openai"),
        (["AWS_PROFILE"], "amazon-bedrock"),
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "amazon-bedrock"),
        (["AWS_ACCESS_KEY_ID"], None),
        (["AZURE_OPENAI_API_KEY"], None),
        (["AZURE_OPENAI_API_KEY", "AZURE_OPENAI_RESOURCE_NAME"], "azure-openai-responses"),
        (["GOOGLE_CLOUD_PROJECT"], None),
    ],
)
def test_providers_in_the_environment(pi: Directory, variables: list[str], provider: str | None) -> None:
    config = model_config(pi.environ | dict.fromkeys(variables, "canary"))
    assert list(config.providers) == ([provider] if provider else [])


def test_an_empty_variable_is_no_key(pi: Directory) -> None:
    assert not model_configured(pi.environ | {"ANTHROPIC_API_KEY": ""})


@pytest.mark.parametrize(
    ("credential", "usable"),
    [
        ({"type": "oauth", "access": "a", "refresh": "r"}, True),
        ({"type": "api_key", "key": "sk-canary"}, True),
        ({"type": "api_key", "key": "$SET"}, True),
        ({"type": "api_key", "key": "${UNSET}"}, False),
        ({"type": "api_key", "key": "${OWN}", "env": {"OWN": "v"}}, True),
        ({"type": "api_key", "key": "!security find-password"}, True),
        ({"type": "api_key", "key": "costs $$5"}, True),
        ({"type": "api_key"}, False),
        ("text", False),
    ],
)
def test_credentials_in_auth_json(pi: Directory, credential: Any, usable: bool) -> None:
    pi.write("auth.json", {"anthropic": credential})
    assert model_configured(pi.environ | {"SET": "v"}) is usable


def test_a_provider_of_models_json_counts_when_its_key_resolves(pi: Directory) -> None:
    pi.write("models.json", '{"providers": {"own": {"baseUrl": "http://x//y", "apiKey": "$KEY"},}} // a comment')
    assert not model_configured(pi.environ)
    assert model_config(pi.environ | {"KEY": "v"}).providers == {"own": "models.json"}


def test_the_default_model_needs_a_credential(pi: Directory) -> None:
    pi.write("settings.json", {"defaultProvider": "openai", "defaultModel": "gpt"})
    config = model_config(pi.environ | {"ANTHROPIC_API_KEY": "v"})
    assert (config.configured, config.default) == (True, None)
    assert config.problems == ("the default model openai/gpt has no credential for its provider",)
    assert model_config(pi.environ | {"OPENAI_API_KEY": "v"}).default == "openai/gpt"


@pytest.mark.parametrize(("text", "problem"), [("{", "is not JSON"), ("[]", "does not hold a JSON object")])
def test_a_file_that_pi_could_not_read_is_named(pi: Directory, text: str, problem: str) -> None:
    pi.write("auth.json", text)
    [said] = model_config(pi.environ).problems
    assert str(pi.path / "auth.json") in said
    assert problem in said


def test_no_value_is_in_what_is_said(pi: Directory) -> None:
    pi.write("auth.json", {"openai": {"type": "api_key", "key": "sk-canary"}})
    pi.write("models.json", {"providers": {"own": {"apiKey": "sk-canary"}}})
    assert "canary" not in repr(model_config(pi.environ | {"ANTHROPIC_API_KEY": "sk-canary"}))
