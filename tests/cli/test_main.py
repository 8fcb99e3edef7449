from __future__ import annotations

import subprocess
import sys

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
    assert (done.returncode, "No such command" in done.stderr) == (2, True)


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
