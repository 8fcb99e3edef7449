"""An agent directory for pi (what ``PI_CODING_AGENT_DIR`` names) whose model is a scripted one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["MODELS", "PRICES", "PROVIDER", "model_reference", "private_opener", "provider_entry", "write_pi_config"]

PROVIDER: Final = "scripted"
"""The provider's name in pi."""

MODELS: Final = ("scripted-1",)
"""The ids of its models, where none are given."""

PRICES: Final = {"input": 1.0, "output": 2.0, "cacheRead": 0.1, "cacheWrite": 0.0}
"""What a million tokens cost."""


def model_reference(model: str) -> str:
    """How pi names the model: ``provider/id``."""
    return f"{PROVIDER}/{model}"


def provider_entry(base_url: str, models: Sequence[str]) -> dict[str, Any]:
    """The provider's entry in ``models.json``; also what an extension's ``pi.registerProvider`` takes.

    ``sendSessionAffinityHeaders`` makes pi name its session in each request, by which conversations are told apart.
    """
    entry = {
        "reasoning": True,
        "contextWindow": 128_000,
        "maxTokens": 8_192,
        "cost": PRICES,
        "compat": {"supportsDeveloperRole": False, "sendSessionAffinityHeaders": True},
    }
    return {
        "baseUrl": base_url,
        "api": "openai-completions",
        "apiKey": "none-is-needed",
        "models": [{"id": model, "name": model, **entry} for model in models],
    }


def write_pi_config(
    directory: Path, provider: Mapping[str, Any], model: str, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Write ``models.json`` and ``settings.json``; return the environment variables that make pi use them, quietly."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    defaults = {"defaultProvider": PROVIDER, "defaultModel": model, "quietStartup": True}
    _write_private(directory / "models.json", {"providers": {PROVIDER: dict(provider)}})
    _write_private(directory / "settings.json", {**defaults, **settings})
    return {
        "PI_CODING_AGENT_DIR": str(directory),
        "PI_OFFLINE": "1",
        "PI_TELEMETRY": "0",
        "PI_SKIP_VERSION_CHECK": "1",
    }


def private_opener(name: str, flags: int) -> int:
    """For ``open(..., opener=)``: a file that is made gets mode 0600."""
    return os.open(name, flags, 0o600)


def _write_private(path: Path, value: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8", opener=private_opener) as file:
        json.dump(value, file, indent=2)
    path.chmod(0o600)
