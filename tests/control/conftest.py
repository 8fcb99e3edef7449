"""A live run with simulated agents, and raw clients of its control socket."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test's runs are."""
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
