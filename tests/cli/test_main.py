from __future__ import annotations

import subprocess
import sys

import pytest

from ramure.cli.main import COMMANDS
from tests.cli.conftest import Command


def test_the_help_lists_the_commands(ramure: Command) -> None:
    done = ramure("--help")
    assert done.returncode == 0
    assert {"setup", "doctor"} <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}


def test_the_version(ramure: Command) -> None:
    assert ramure("--version").stdout.startswith("ramure ")


def test_an_unknown_command_is_a_usage_error(ramure: Command) -> None:
    done = ramure("setpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ramure: there is no command 'setpu'; did you mean setup or stop?\n"


def test_a_command_imports_nothing_of_another() -> None:
    code = (
        "import sys; from ramure.cli.main import main\n"
        "main(['setup', '--help'], standalone_mode=False)\n"
        f"others = [f'ramure.cli.{{name}}' for name in {COMMANDS!r} if name != 'setup']\n"
        "heavy = [n for n in (*others, 'libtmux', 'paramiko', 'rich') if n in sys.modules]\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "about", "remedy"),
    [
        ("help", "'help'", "`ramure --help` lists them"),
        ("--nope", "--nope", "see `ramure --help`"),
        ("send", "AGENT", "see `ramure send --help`"),
        ("ls --al", "--all", "see `ramure ls --help`"),
        ("ls -n 0", "x>=1", "see `ramure ls --help`"),
        ("stop --timeout nan", "'nan' is no number of seconds", "see `ramure stop --help`"),
        ("exec --timeout -1 worker ls", "-1.0", "see `ramure exec --help`"),
        ("call add --timeout x", "'x'", "see `ramure call --help`"),
    ],
)
def test_what_was_typed_wrong_is_told_in_one_line_with_the_remedy(
    ramure: Command, line: str, about: str, remedy: str
) -> None:
    done = ramure(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ramure: ")
    assert about in done.stderr
    assert done.stderr.endswith(f"; {remedy}\n")
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown(ramure: Command) -> None:
    assert "Commands:" in ramure().stderr
