"""Type-check the pi extension against the oldest and the newest pi: ``typecheck_extension.py DEV_DIRECTORY``.

Installs what it needs (``npm ci`` in tests/agents/extension, when the lock file changed), and a private Node into the
development directory where there is no npm on the PATH.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from ramure.agents.pi.toolchain.find import private_nodes, toolchain_dir
from ramure.agents.pi.toolchain.install import npm_of
from ramure.agents.pi.toolchain.probe import Node, probe_node, which
from ramure.agents.pi.toolchain.setup import set_up

PROJECT = Path(__file__).parent.parent / "tests" / "agents" / "extension"
MODULES = PROJECT / "node_modules"


def node_with_npm(dev: Path) -> tuple[Node, list[str]]:
    """A Node that has npm: the one on the PATH, else a private one (with a pi, which the tests need anyway)."""
    command = which("node")
    node = probe_node(command) if command else None
    if node is None or npm_of(node) is None:
        home = dev / "newest"
        set_up(home, private=True, say=lambda line: print(line, file=sys.stderr))
        node = private_nodes(toolchain_dir(home))[0]
    npm = npm_of(node)
    if npm is None:
        sys.exit(f"there is no npm for {node.path}")
    return node, npm


def install(node: Node, npm: list[str]) -> None:
    """``npm ci``, unless the installed packages are those of the lock file."""
    wanted = hashlib.sha256((PROJECT / "package-lock.json").read_bytes()).hexdigest()
    stamp = MODULES / ".stamp"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    path = os.pathsep.join((str(node.path.parent), os.environ.get("PATH", os.defpath)))
    environ = {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([*npm, "ci", *options], cwd=PROJECT, env=environ, check=True, timeout=600, stdin=subprocess.DEVNULL)
    stamp.write_text(wanted)


def main(dev: Path) -> int:
    """Both checks, side by side; 0 if both pass."""
    node, npm = node_with_npm(dev)
    install(node, npm)
    checks = []
    for name in ("oldest", "newest"):
        tsc = [str(node.path), str(MODULES / "typescript" / "bin" / "tsc"), "-p", f"tsconfig.{name}.json"]
        kept = ["--incremental", "--tsBuildInfoFile", str(MODULES / f".{name}.tsbuildinfo")]
        checks.append(subprocess.Popen([*tsc, *kept], cwd=PROJECT, stdin=subprocess.DEVNULL))
    return max(check.wait(timeout=600) for check in checks)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
