"""README.md lists what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = re.findall(r"^\| (\d+) \| .* \| (\S+)::(\w+) \|", (HERE / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("file", "test"), sorted({(file, test) for _, file, test in ROWS}))
def test_each_test_that_is_named_is_there(file: str, test: str) -> None:
    tree = ast.parse((HERE / file).read_text())
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_sixty_attacks_at_least() -> None:
    assert sum(int(count) for count, _, _ in ROWS) >= 60
