"""Programs that stand in for Node, pi, tmux, npm and pip where only their versions and places matter."""

from __future__ import annotations

import json
from pathlib import Path


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def node(directory: Path, version: str) -> Path:
    """A `node` that says its version, and its place, as Node does with `-p`."""
    return script(directory / "node", f'echo run >> "{directory}/node.runs"; echo "v{version} $0"')


def node_runs(directory: Path) -> int:
    runs = directory / "node.runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def tmux(directory: Path, version: str = "3.3a") -> Path:
    return script(directory / "tmux", f'echo "tmux {version}"')


def pi_package(node_modules: Path, version: str, engines: str | None = None) -> Path:
    """A pi as npm lays it out; the path of its script."""
    package = node_modules / "@earendil-works" / "pi-coding-agent"
    cli = script(package / "dist" / "cli.js", f"echo {version}")
    manifest = {"name": "@earendil-works/pi-coding-agent", "version": version, "bin": {"pi": "dist/cli.js"}}
    if engines:
        manifest["engines"] = {"node": engines}
    (package / "package.json").write_text(json.dumps(manifest))
    return cli


def pi(directory: Path, version: str, engines: str | None = None) -> Path:
    """A `pi` command as npm makes it: a link to the script in the package."""
    cli = pi_package(directory.parent / "lib" / "node_modules", version, engines)
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "pi"
    link.unlink(missing_ok=True)
    link.symlink_to(cli)
    return cli


def private(home: Path, *, pi_version: str, node_version: str, engines: str | None = None) -> None:
    """A Node and a pi as `ramure setup` leaves them, not chosen yet."""
    directory = home / "toolchain"
    node(directory / f"node-{node_version}" / "bin", node_version)
    pi_package(directory / f"pi-{pi_version}" / "node_modules", pi_version, engines)
