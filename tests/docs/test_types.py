"""The programs of the documentation as type checkers see them. What a program leaves without annotations is not checked."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.docs.programs import Program, programs

CHECKERS = {
    "mypy": [
        *("-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", "--no-error-summary"),
    ],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}


def whole(program: Program) -> str:
    """Its code as a module: a block may `await` at its top level."""
    code = "\n".join(filter(None, (program.needs.get("first"), program.code, program.needs.get("then"))))
    try:
        compile(code, str(program), "exec")
    except SyntaxError:
        return f"async def program() -> None:\n{textwrap.indent(code, '    ')}"
    return code


@pytest.mark.edges
@pytest.mark.timeout(600)
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_programs_have_no_errors_of_types(checker: str, tmp_path: Path) -> None:
    for program in programs():
        (tmp_path / (re.sub(r"\W", "_", str(program)) + ".py")).write_text(whole(program), encoding="utf-8")
    names = sorted(path.name for path in tmp_path.glob("*.py"))
    command = [sys.executable, *CHECKERS[checker], *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
