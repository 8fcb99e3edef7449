"""The schemas of what the commands print with ``--json``, and of the control socket's methods, are made from the code."""

from __future__ import annotations

import ast
import json
from typing import Any

import jsonschema
import pytest

from ramure.cli.documents import DOCUMENTS
from tests.cli.live import checked
from tests.cli.schemas import FILES, ROOT, text_of


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_what_the_code_makes(name: str) -> None:
    """``python -m tests.cli.schemas --write`` makes it anew."""
    made = FILES[name]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text_of(made) + "\n"
    jsonschema.Draft202012Validator.check_schema({"$defs": made["$defs"]})


def printed(path: Any) -> set[str]:
    """The documents that a module prints."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="as_json"), args=[ast.Constant(value=str(name)), *_]):
                names.add(name)
            case ast.Constant(value=str(text)) if text.startswith("ramure.") and text.endswith(".v1"):
                names.add(text.split(".")[1])
    return names


def test_each_document_that_a_command_prints_has_a_schema_and_no_other_has() -> None:
    assert set().union(*map(printed, (ROOT / "ramure" / "cli" / "commands").glob("*.py"))) == set(DOCUMENTS)


@pytest.mark.parametrize(
    "document",
    [
        {"schema": "ramure.stop.v1", "execution_id": "brave-otter-3f9a1c", "killed": "no"},
        {"schema": "ramure.stop.v1", "killed": False},
        {"schema": "ramure.trace.v1"},
        {"schema": "ramure.exec.v1", "execution_id": "x", "agent": "a", "command": "ls", "stdout": "", "stderr": ""},
        {
            "schema": "ramure.gc.v1",
            "dry_run": True,
            "found": [{"run": "x", "kind": "cat", "what": "", "pid": None, "error": None}],
        },
    ],
)
def test_a_document_that_does_not_fit_is_found(document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        checked(json.dumps(document))


def test_a_later_version_may_add_fields() -> None:
    checked(json.dumps({"schema": "ramure.stop.v1", "execution_id": "x", "killed": False, "new": 1}))
