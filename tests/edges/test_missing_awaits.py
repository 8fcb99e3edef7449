"""An `await` that is missing before a verb: the program works all the same, or names the line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.edges.missing_awaits import Case, cases, run, sources

SOAK = float(os.environ.get("RAMURE_SOAK", "0"))
COUNT = int(60 * SOAK) or 6
"""Programs; `make edges` has 60."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def as_written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each program prints as it is written, by name: filled as needed."""
    return {}


@pytest.mark.parametrize("case", cases(seed=13, count=COUNT), ids=str)
def test_it_works_or_names_the_line(case: Case, tmp_path: Path, as_written: dict[str, str]) -> None:
    if case.name not in as_written:
        code, script = next((code, script) for name, code, script in sources() if name == case.name)
        original, _ = run(Case(case.name, code, 0, "", script), tmp_path)
        assert original.error == "", original.error
        as_written[case.name] = original.value
    result, where = run(case, tmp_path)
    works = result.error == "" and result.value == as_written[case.name] and "never awaited" not in result.said
    assert works or where in result.said, f"{case}\nprinted {result.value!r}\n{result.said}"
