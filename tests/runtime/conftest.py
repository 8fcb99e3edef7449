"""Every test here has a home of its own; most need no agents, and run in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test's runs keep their logs."""
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
