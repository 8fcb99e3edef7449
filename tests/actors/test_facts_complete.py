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

ROOT = Path(__file__).parent.parent.parent
ORACLE = ROOT / "tests" / "otp_oracle"
RECORDED = ROOT / "tests" / "conformance" / "recorded" / "facts.json"
OBSERVED: dict[str, Any] = json.loads(RECORDED.read_text())
"""Fact name -> what Erlang did."""

TRIES = 3
"""How often Erlang is asked: some facts are made with waits of 20 ms."""

OF_SUPERVISORS = ("supervisor ", "check_childspecs: ")


def observe(directory: Path) -> dict[str, Any]:
    for source in ("facts.erl", "oracle_json.erl"):
        subprocess.run(["erlc", "-o", str(directory), str(ORACLE / source)], check=True, timeout=60)
    command = ["erl", "-noshell", "-pa", str(directory), "-s", "facts", "main"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {name: value for line in done.stdout.splitlines() for name, value in json.loads(line).items()}


def facts_tested() -> dict[str, Any]:
    """The facts that are tests, with what each test expects."""
    modules = (test_facts_gen_server, test_facts_mailbox, test_facts_signals, test_facts_sys)
    tests = [test for module in modules for test in vars(module).values()]
    return {name: observed for test in tests for name, observed in getattr(test, "facts", {}).items()}


def test_every_fact_is_a_test_or_a_line_in_the_docs() -> None:
    lines = (ROOT / "docs" / "semantics.md").read_text()
    facts = {name for name in OBSERVED if not name.startswith(OF_SUPERVISORS)}
    tested = set(facts_tested())
    assert tested <= facts
    documented = {name for name in facts if f"| {name} |" in lines}
    assert facts - tested - documented == set()
    assert documented & tested == set()


def test_what_each_test_expects_is_what_was_recorded() -> None:
    tested = facts_tested()
    assert tested == {name: OBSERVED[name] for name in tested}


@pytest.mark.timeout(300)
@pytest.mark.real
def test_the_recorded_facts_are_what_erlang_does(tmp_path: Path) -> None:
    written = set(re.findall(r'^ *\[?\{<<"([^"]+)">>,$', (ORACLE / "facts.erl").read_text(), re.MULTILINE))
    assert written <= set(OBSERVED)
    if not shutil.which("erlc"):
        return
    seen = [observe(tmp_path)]
    while seen[-1] != OBSERVED and len(seen) < TRIES:
        seen.append(observe(tmp_path))
    # A busy host makes an Erlang late as well: each fact has to be seen, not all of them in one go.
    for name, expected in OBSERVED.items():
        assert expected in [facts.get(name) for facts in seen], name
    assert all(set(facts) == set(OBSERVED) for facts in seen)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        RECORDED.write_text(json.dumps(observe(Path(scratch)), indent=1, sort_keys=True) + "\n")
