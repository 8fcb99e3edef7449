"""No fact of Erlang is forgotten: each is a test of its name, or a line in ``docs/semantics.md`` that says why not.

``python tests/actors/test_facts_complete.py`` records what ``facts.erl`` observes on the Erlang that is here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.actors import test_facts_gen_server, test_facts_mailbox, test_facts_signals, test_facts_sys
from tests.actors.facts import OBSERVED

ROOT = Path(__file__).parent.parent.parent
ORACLE = ROOT / "tests" / "otp_oracle"
RECORDED = ROOT / "tests" / "conformance" / "recorded" / "facts.json"
OF_SUPERVISORS = ("supervisor ", "check_childspecs: ")


def observe(directory: Path) -> dict[str, Any]:
    for source in ("facts.erl", "oracle_json.erl"):
        subprocess.run(["erlc", "-o", str(directory), str(ORACLE / source)], check=True, timeout=60)
    command = ["erl", "-noshell", "-pa", str(directory), "-s", "facts", "main"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {name: value for line in done.stdout.splitlines() for name, value in json.loads(line).items()}


def facts_tested() -> set[str]:
    names = set()
    for module in (test_facts_gen_server, test_facts_mailbox, test_facts_signals, test_facts_sys):
        for test in vars(module).values():
            names |= set(getattr(test, "facts", ())) | ({test.fact} if hasattr(test, "fact") else set())
    return names


def test_every_fact_is_a_test_or_a_line_in_the_docs() -> None:
    lines = (ROOT / "docs" / "semantics.md").read_text()
    facts = {name for name in OBSERVED if not name.startswith(OF_SUPERVISORS)}
    assert facts_tested() <= facts
    documented = {name for name in facts if f"| {name} |" in lines}
    assert facts - facts_tested() - documented == set()
    assert documented & facts_tested() == set()


@pytest.mark.timeout(120)
@pytest.mark.real
def test_the_recorded_facts_are_what_erlang_does(tmp_path: Path) -> None:
    written = set(re.findall(r'^ *\[?\{<<"([^"]+)">>,$', (ORACLE / "facts.erl").read_text(), re.MULTILINE))
    assert written <= set(OBSERVED)
    if shutil.which("erlc"):
        assert observe(tmp_path) == OBSERVED


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        RECORDED.write_text(json.dumps(observe(Path(scratch)), indent=1, sort_keys=True) + "\n")
