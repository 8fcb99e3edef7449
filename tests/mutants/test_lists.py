"""Each mutant of the lists is one that can be made now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.mark.parametrize("path", sorted(HERE.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_mutant_replaces_occurs_once(path: Path) -> None:
    stale = []
    for mutant in json.loads(path.read_text(encoding="utf-8"))["mutants"]:
        count = (ROOT / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"])
        if count != 1 or mutant["old"] == mutant["new"]:
            stale.append(f"{mutant['file']}: {mutant['old']!r} occurs {count} times")
    assert stale == []
