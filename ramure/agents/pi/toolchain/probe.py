"""Looking at one program on disk: where it really is, and which version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramure.agents.pi.toolchain.versions import PI_PACKAGES, Version, node_needed, parse_version

__all__ = ["Node", "Pi", "parse_manifest", "probe_node", "probe_pi", "read_pi_package", "run_quietly", "which"]

_PROBE_SECONDS = 20.0  # a cold disk; a warm Node answers in 0.05 s


@dataclass(frozen=True, slots=True)
class Node:
    """A Node executable (behind version managers' shims: the real one)."""

    path: Path
    version: Version


@dataclass(frozen=True, slots=True)
class Pi:
    """A pi. ``cli`` is the script that Node runs, or None where pi is a program of its own (``program``)."""

    version: Version
    needs_node: Version
    cli: Path | None
    program: Path | None = None


def which(name: str, path: str | None = None) -> Path | None:
    """The executable that this name means on ``path`` (a ``PATH`` value; None: this process's own)."""
    found = shutil.which(name, path=path)
    return Path(found).absolute() if found else None


def run_quietly(argv: list[str], path: str | None = None) -> str | None:
    """The standard output of a quick command, or None if it could not be run, failed, or took too long."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
            env=None if path is None else {**os.environ, "PATH": path},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def probe_node(executable: Path, path: str | None = None) -> Node | None:
    """Ask a Node for its version and for where it really is, or None if it does not run."""
    said = run_quietly([str(executable), "-p", "process.version + ' ' + process.execPath"], path)
    version_text, _, real = (said or "").strip().partition(" ")
    version = parse_version(version_text)
    if version is None or not real:
        return None
    return Node(Path(real), version)


def probe_pi(executable: Path, path: str | None = None) -> Pi | None:
    """What the ``pi`` command at ``executable`` is, or None if it is not the coding agent pi.

    npm links the command to a script inside its package, which says the version without running anything. Anything
    else (a wrapper script, pi compiled to one program) is asked with ``--version``.
    """
    script = executable.resolve()
    for directory in script.parents:
        manifest = directory / "package.json"
        if manifest.is_file():
            found = _from_manifest(manifest)
            if found is not None and found.cli is not None and found.cli.resolve() == script:
                return found
            break  # of something else, as above a version manager's shims, or a HOME that has one
    said = run_quietly([str(executable), "--version"], path)
    lines = (said or "").strip().splitlines()
    if not lines or not re.fullmatch(r"\d+\.\d+\.\d+(-\S+)?", lines[-1]):
        return None  # another program of this name
    version = parse_version(lines[-1])
    return Pi(version, node_needed(version), cli=None, program=executable) if version is not None else None


def read_pi_package(node_modules: Path) -> Pi | None:
    """The pi that is installed in a ``node_modules`` directory, or None."""
    for name in PI_PACKAGES:
        found = _from_manifest(node_modules / name / "package.json")
        if found is not None:
            return found
    return None


def _from_manifest(manifest: Path) -> Pi | None:
    try:
        found = parse_manifest(manifest.read_text(encoding="utf-8"), manifest.parent)
    except OSError:
        return None
    return found if found is not None and found.cli is not None and found.cli.is_file() else None


def parse_manifest(text: str, directory: Path) -> Pi | None:
    """The pi that a ``package.json`` with this text, in this directory, is of; None if it is of something else."""
    try:
        said: Any = json.loads(text)
        name, version, cli = said["name"], parse_version(said["version"]), directory / said["bin"]["pi"]
        needed = node_needed(version, (said.get("engines") or {}).get("node"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Pi(version, needed, cli) if name in PI_PACKAGES and version is not None else None
