"""Whether the user's pi has a model it can use, found out as pi does, without starting it. Names only, never a value.

The rules are pi's own (its ``docs/providers.md`` and ``docs/models.md``): a model can be used when its provider has a
credential in ``auth.json``, a key in ``models.json``, or one in the environment. The default model of
``settings.json`` is taken if its provider is among these, else pi takes a model of one that is.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PROVIDER_VARIABLES", "ModelConfig", "agent_dir", "model_config", "model_configured", "variables_of"]

_SINGLE = {
    "ant-ling": "ANT_LING_API_KEY",
    "baseten": "BASETEN_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "github-copilot": "COPILOT_GITHUB_TOKEN",
    "google": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "huggingface": "HF_TOKEN",
    "kimi-coding": "KIMI_API_KEY",
    "meta": "META_API_KEY",
    "minimax": "MINIMAX_API_KEY",
    "minimax-cn": "MINIMAX_CN_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "moonshotai": "MOONSHOT_API_KEY",
    "nvidia": "NVIDIA_API_KEY",
    "openai": "OPENAI_API_KEY",
    "opencode": "OPENCODE_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "qwen-token-plan": "QWEN_TOKEN_PLAN_API_KEY",
    "qwen-token-plan-cn": "QWEN_TOKEN_PLAN_CN_API_KEY",
    "radius": "RADIUS_API_KEY",
    "together": "TOGETHER_API_KEY",
    "vercel-ai-gateway": "AI_GATEWAY_API_KEY",
    "xai": "XAI_API_KEY",
    "xiaomi": "XIAOMI_API_KEY",
    "xiaomi-token-plan-ams": "XIAOMI_TOKEN_PLAN_AMS_API_KEY",
    "xiaomi-token-plan-cn": "XIAOMI_TOKEN_PLAN_CN_API_KEY",
    "xiaomi-token-plan-sgp": "XIAOMI_TOKEN_PLAN_SGP_API_KEY",
    "zai": "ZAI_API_KEY",
    "zai-coding-cn": "ZAI_CODING_CN_API_KEY",
}

_SEVERAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("anthropic", ("ANTHROPIC_API_KEY",)),
    ("anthropic", ("ANTHROPIC_OAUTH_TOKEN",)),
    ("anthropic", ("ANTHROPIC_AUTH_TOKEN",)),
    ("amazon-bedrock", ("AWS_PROFILE",)),
    ("amazon-bedrock", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    ("amazon-bedrock", ("AWS_BEARER_TOKEN_BEDROCK",)),
    ("amazon-bedrock", ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",)),
    ("amazon-bedrock", ("AWS_CONTAINER_CREDENTIALS_FULL_URI",)),
    ("amazon-bedrock", ("AWS_WEB_IDENTITY_TOKEN_FILE",)),
    ("azure-openai-responses", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_BASE_URL")),
    ("azure-openai-responses", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_RESOURCE_NAME")),
    ("cloudflare-ai-gateway", ("CLOUDFLARE_API_KEY", "CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_GATEWAY_ID")),
    ("cloudflare-workers-ai", ("CLOUDFLARE_API_KEY", "CLOUDFLARE_ACCOUNT_ID")),
    ("google-vertex", ("GOOGLE_CLOUD_API_KEY",)),
    ("google-vertex", ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")),
    ("google-vertex", ("GOOGLE_APPLICATION_CREDENTIALS", "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")),
)

_WAYS = (*((provider, (variable,)) for provider, variable in _SINGLE.items()), *_SEVERAL)
"""Each way to a provider: its name, and the variables that must all be set."""

PROVIDER_VARIABLES = frozenset(variable for _, variables in _WAYS for variable in variables) | {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
}
"""The environment variables by which pi's built-in providers are configured. Most hold secrets."""


def variables_of(provider: str) -> list[str]:
    """The ways to give one of pi's built-in providers its credential: ``A and B`` where it needs several variables."""
    return [" and ".join(variables) for name, variables in _WAYS if name == provider]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What pi would have to work with. ``providers`` says for each usable provider where its credential comes from."""

    directory: Path
    default: str | None = None
    providers: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def configured(self) -> bool:
        """True if pi has a model that it would use by itself."""
        return bool(self.providers)


def agent_dir(environ: Mapping[str, str] | None = None) -> Path:
    """pi's own directory: ``$PI_CODING_AGENT_DIR``, else ``~/.pi/agent``."""
    environ = os.environ if environ is None else environ
    given = environ.get("PI_CODING_AGENT_DIR")
    if given:
        return Path(given).expanduser()
    return Path(environ.get("HOME") or Path.home()) / ".pi" / "agent"


def model_configured(environ: Mapping[str, str] | None = None) -> bool:
    """True if the user's pi has a model that it would use by itself."""
    return model_config(environ).configured


def model_config(environ: Mapping[str, str] | None = None) -> ModelConfig:
    """The user's model configuration, as pi would find it with this environment (None: ours)."""
    environ = os.environ if environ is None else environ
    directory = agent_dir(environ)
    problems: list[str] = []
    settings = _read(directory / "settings.json", problems)
    providers: dict[str, str] = {}
    for provider, source in (
        *_from_auth(_read(directory / "auth.json", problems), environ),
        *_from_models(_read(directory / "models.json", problems, comments=True), environ),
        *_from_environment(environ),
    ):
        providers.setdefault(provider, source)
    default = None
    wanted, model = settings.get("defaultProvider"), settings.get("defaultModel")
    if isinstance(wanted, str) and isinstance(model, str):
        if wanted in providers:
            default = f"{wanted}/{model}"
        else:
            problems.append(f"the default model {wanted}/{model} has no credential for its provider")
    return ModelConfig(directory, default, providers, tuple(problems))


def _from_auth(auth: dict[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for provider, credential in auth.items():
        if not isinstance(credential, dict):
            continue
        own = credential.get("env")
        known = {**environ, **own} if isinstance(own, dict) else environ
        if credential.get("type") == "oauth" or _resolves(credential.get("key"), known):
            yield provider, "auth.json"


def _from_models(models: dict[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    entries = models.get("providers")
    for provider, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and _resolves(entry.get("apiKey"), environ):
            yield provider, "models.json"


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for provider, variables in _WAYS:
        if all(environ.get(variable) for variable in variables):
            yield provider, " and ".join(variables)


def _resolves(value: object, environ: Mapping[str, str]) -> bool:
    """True if pi would get a key out of this: a literal, ``$NAME`` or ``${NAME}`` that is set, or ``!command``."""
    if not isinstance(value, str) or not value:
        return False
    if value.startswith("!"):
        return True
    names = re.findall(r"\$\$|\$!|\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", value)
    return all(environ.get(braced or bare) for braced, bare in names if braced or bare)


def _read(file: Path, problems: list[str], *, comments: bool = False) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file} cannot be read: {error}")
        return {}
    if comments:  # pi allows // comments and trailing commas in models.json
        text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda found: found[1] or "", text)
        text = re.sub(r'("(?:\\.|[^"\\])*")|,(\s*[}\]])', lambda found: found[1] or found[2], text)
    try:
        value = json.loads(text)
    except ValueError as error:
        problems.append(f"{file} is not JSON: {error}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{file} does not hold a JSON object")
        return {}
    return value
