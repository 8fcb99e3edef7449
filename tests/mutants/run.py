"""Small wrong changes to the code, one at a time: does a test notice each?

    python -m tests.mutants                     # every list
    python -m tests.mutants -n 5 supervisors    # the first five of tests/mutants/supervisors.json

A list is a JSON object: ``commands``, each an argument list (``{python}`` is the interpreter), tried in turn until one
fails; and ``mutants``, each with ``file``, ``old`` (a piece of one line that occurs once in that file), ``new``, and ``by``
where it is known which tests (of those that the commands run) notice it: they are tried first.
Everything runs in a copy; the checkout is not touched. First the commands must pass there as it is. The exit code is
1 when a mutant lives, 2 when a list or the unchanged code is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DEV = ".ramure-dev"
"""The installed pis, which the copy shares."""
COPIED = ("ramure", "tests", "examples", "docs", "README.md", "pyproject.toml")
SECONDS = 300.0
"""For each command, or four times what it takes on the unchanged code: a mutant that hangs is noticed too."""
SHOWN = 20
"""Lines of a command's output that are shown where the unchanged code fails it."""


@dataclass(frozen=True)
class Mutant:
    file: str
    old: str
    new: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()!r} → {self.new.strip()!r}"


class BadList(Exception):
    """A list names what is not there."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Mutants, each to be noticed by a test."
    )
    parser.add_argument("-n", type=int, default=None, help="only the first N of each list")
    parser.add_argument("lists", nargs="*", help="names of lists here, without .json (default: all)")
    given = parser.parse_args(arguments)
    names = given.lists or sorted(path.stem for path in HERE.glob("*.json"))
    alive: list[str] = []
    try:
        for name in names:
            alive += run_list(name, given.n)
    except BadList as error:
        print(error, file=sys.stderr)
        return 2
    for each in alive:
        print(f"lives: {each}")
    return 1 if alive else 0


def run_list(name: str, limit: int | None) -> list[str]:
    """Run the mutants of one list; those that live."""
    path = HERE / f"{name}.json"
    if not path.exists():
        raise BadList(f"there is no {path.name} in tests/mutants")
    data = json.loads(path.read_text())
    commands = [[part.replace("{python}", sys.executable) for part in command] for command in data["commands"]]
    mutants = [Mutant(**each) for each in data["mutants"]][:limit]
    alive = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Path(directory)
        copy_to(copy)
        limits = [check_unchanged(name, command, copy) for command in commands]
        for mutant in mutants:
            began = time.perf_counter()
            noticed = noticed_by(mutant, commands, limits, copy)
            print(
                f"{name}: {'killed' if noticed else 'LIVES'} {time.perf_counter() - began:5.1f} s  {mutant}", flush=True
            )
            if noticed is None:
                alive.append(str(mutant))
    return alive


def copy_to(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, target / name)
    if (ROOT / DEV).exists():
        (target / DEV).symlink_to((ROOT / DEV).resolve())


def noticed_by(mutant: Mutant, commands: list[list[str]], limits: list[float], copy: Path) -> list[str] | None:
    """The first command that fails with the mutant in place; None when none does."""
    path = copy / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1 or "\n" in mutant.old:
        raise BadList(
            f"{mutant}: `old` must be a piece of one line that occurs once, not {text.count(mutant.old)} times"
        )
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        if mutant.by:
            first = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *shlex.split(mutant.by)]
            commands, limits = [first, *commands], [SECONDS, *limits]
        return first_failure(commands, limits, copy)
    finally:
        path.write_text(text)


def check_unchanged(name: str, command: list[str], copy: Path) -> float:
    """The seconds that a mutant may take. Raises BadList when the unchanged code fails the command."""
    began = time.perf_counter()
    done = run(command, None, copy)
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-SHOWN:])
        raise BadList(f"{name}: the unchanged code fails {' '.join(command)}:\n{last}")
    return max(SECONDS, 4 * (time.perf_counter() - began))


def first_failure(commands: list[list[str]], limits: list[float], copy: Path) -> list[str] | None:
    for command, limit in zip(commands, limits, strict=True):
        try:
            if run(command, limit, copy).returncode != 0:
                return command
        except subprocess.TimeoutExpired:
            return command
    return None


def run(command: list[str], limit: float | None, copy: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit,
        check=False,
    )
