"""Finding a Node and a pi that fit together, and tmux; remembering what was found.

The choice is kept in ``toolchain/current.json`` of ramure's home. It holds while every file that it names is as it was
(modification time and size) and ``pi`` on the ``PATH`` still means the same file, so the usual look-up runs no Node.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ramure.agents.pi.toolchain.errors import ToolError, ToolMissing, ToolTooOld
from ramure.agents.pi.toolchain.probe import Node, Pi, probe_node, probe_pi, read_pi_package, run_quietly, which
from ramure.agents.pi.toolchain.versions import PI_MINIMUM, TMUX_MINIMUM, Version, parse_version, tmux_order
from ramure.home import private_dir, ramure_home

__all__ = [
    "FORMAT",
    "SETUP",
    "Harness",
    "Toolchain",
    "find_harness",
    "find_own",
    "find_private",
    "find_tmux",
    "find_toolchain",
    "install_command",
    "private_nodes",
    "private_pis",
    "remember",
    "toolchain_dir",
]

SETUP = "ramure setup"

NO_SIGUSR1 = Version(22, 14)
"""The Node from which on SIGUSR1 can be kept from opening the inspector, by which anyone on this host could steer pi; in
older ones pi's extension does it once it is loaded."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Harness:
    """A pi and the Node that runs it. ``node`` is None where pi is a program of its own, or brings its Node along."""

    source: Literal["own", "private"]
    pi: Path
    pi_version: Version
    node: Path | None
    node_version: Version | None
    found_as: Path | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """The words that start pi."""
        if self.node is None:
            return (str(self.pi),)
        version = self.node_version
        closed = version is not None and version >= NO_SIGUSR1 and not (23, 0) <= version < (23, 7)
        return (str(self.node), *(["--disable-sigusr1"] if closed else []), str(self.pi))

    def __str__(self) -> str:
        on = "" if self.node is None else f" on Node {self.node_version}"
        return f"pi {self.pi_version}{on} ({f'your own, {self.pi}' if self.source == 'own' else 'private'})"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What an agent on this host is launched with."""

    harness: Harness
    tmux: Path
    tmux_version: str

    @property
    def pi_argv(self) -> tuple[str, ...]:
        """The words that start pi: Node and pi's script, or pi alone where it is a program of its own."""
        return self.harness.argv

    @property
    def pi_version(self) -> Version:
        """The version of pi."""
        return self.harness.pi_version

    @property
    def node_version(self) -> Version | None:
        """The version of the Node that runs pi; None where pi is a program of its own."""
        return self.harness.node_version


def find_toolchain(home: Path | None = None, path: str | None = None) -> Toolchain:
    """What to launch agents with. ``home`` is ramure's (None: the usual), ``path`` a ``PATH`` value (None: ours).

    Raises :class:`ToolMissing` or :class:`ToolTooOld`, which name the remedy. Blocks: some milliseconds when the
    record holds, up to a second when Node and pi must be looked at again.
    """
    tmux, version = find_tmux(path)
    return Toolchain(find_harness(home, path), tmux, version)


def find_tmux(path: str | None = None) -> tuple[Path, str]:
    """tmux and its version, such as ``"3.3a"``. Raises :class:`ToolMissing` or :class:`ToolTooOld`."""
    tmux = which("tmux", path)
    if tmux is None:
        raise ToolMissing("tmux", "tmux was not found on PATH", install_command("tmux"))
    said = (run_quietly([str(tmux), "-V"]) or "").strip()
    order, least = tmux_order(said), tmux_order(TMUX_MINIMUM)
    if order is None or least is None:
        raise ToolMissing("tmux", f"{tmux} -V did not say a version (but {said!r})", install_command("tmux"))
    if order < least:
        problem = f"{said} at {tmux} is too old ({TMUX_MINIMUM} or newer is needed)"
        raise ToolTooOld("tmux", problem, install_command("tmux"))
    return tmux, said.removeprefix("tmux ")


def find_harness(home: Path | None = None, path: str | None = None) -> Harness:
    """The pi that runs will use: the one remembered, else the user's own, else a private one. Remembers it."""
    directory = toolchain_dir(home)
    remembered = _recall(directory, path)
    if remembered is not None:
        return remembered
    own = find_own(path)
    if isinstance(own, Harness):
        chosen = own
    else:
        private = find_private(directory, path)
        if private is None:
            raise own
        chosen = private
    try:
        remember(directory, chosen)
    except OSError:
        return chosen  # only slower next time; whoever needs to write there will say that it cannot
    return chosen


def find_own(path: str | None = None) -> Harness | ToolError:
    """The user's own pi on the ``PATH``, or what is wrong with it."""
    command = which("pi", path)
    if command is None:
        return ToolMissing("pi", "pi was not found on PATH, and no private one is installed", SETUP)
    pi = probe_pi(command, path)
    if pi is None:
        return ToolMissing("pi", f"{command} is not the coding agent pi, and no private one is installed", SETUP)
    if pi.version < PI_MINIMUM:
        least = f"{PI_MINIMUM.major}.{PI_MINIMUM.minor}"
        return ToolTooOld("pi", f"pi {pi.version} at {command} is too old ({least} or newer is needed)", SETUP)
    if pi.cli is None:
        return Harness("own", pi.program or command, pi.version, None, None, command)
    nodes = [n for n in (_node_at(which("node", path), path), _node_at(command.parent / "node", path)) if n]
    for node in nodes:
        if node.version >= pi.needs_node:
            return Harness("own", pi.cli, pi.version, node.path, node.version, command)
    needs = f"pi {pi.version} at {command} needs Node {pi.needs_node} or newer"
    if nodes:
        return ToolTooOld("node", f"{needs}, and {nodes[0].path} is {nodes[0].version}", SETUP)
    return ToolMissing("node", f"{needs}, and no node was found", SETUP)


def find_private(directory: Path, path: str | None) -> Harness | None:
    """The newest private pi with a Node that fits it, private or on the ``PATH``; None if there is none."""
    nodes = private_nodes(directory)
    for pi in private_pis(directory):
        own = None if any(n.version >= pi.needs_node for n in nodes) else _node_at(which("node", path), path)
        for node in (*nodes, *([own] if own else [])):
            if pi.cli is not None and node.version >= pi.needs_node:
                return Harness("private", pi.cli, pi.version, node.path, node.version)
    return None


def toolchain_dir(home: Path | None = None) -> Path:
    """Where ramure keeps its private Node and pi."""
    return (home or ramure_home()) / "toolchain"


def private_pis(directory: Path) -> list[Pi]:
    """The private pis, newest first."""
    found = [read_pi_package(p / "node_modules") for p in directory.glob("pi-*")]
    return sorted((pi for pi in found if pi is not None), key=lambda pi: pi.version, reverse=True)


def private_nodes(directory: Path) -> list[Node]:
    """The private Nodes, newest first (their directories say the version)."""
    found: list[Node] = []
    for where in directory.glob("node-*"):
        version = parse_version(where.name)
        if version is not None and os.access(where / "bin" / "node", os.X_OK):
            found.append(Node(where / "bin" / "node", version))
    return sorted(found, key=lambda node: node.version, reverse=True)


def remember(directory: Path, harness: Harness) -> None:
    """Make ``harness`` the one that runs use from now on."""
    files = [p for p in (harness.pi, harness.node) if p is not None]
    record = {"format": FORMAT, **asdict(harness), "files": {str(p): _signature(p) for p in files}}
    private_dir(directory)
    handle, name = tempfile.mkstemp(prefix="current-", dir=directory)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, default=str)
    Path(name).replace(directory / "current.json")


def _recall(directory: Path, path: str | None) -> Harness | None:
    try:
        record: Any = json.loads((directory / "current.json").read_text(encoding="utf-8"))
        if record["format"] != FORMAT or any(_signature(Path(p)) != s for p, s in record["files"].items()):
            return None
        harness = Harness(
            source=record["source"],
            pi=Path(record["pi"]),
            pi_version=Version(*record["pi_version"]),
            node=Path(record["node"]) if record["node"] else None,
            node_version=Version(*record["node_version"]) if record["node_version"] else None,
            found_as=Path(record["found_as"]) if record["found_as"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no record, or one that another version wrote: look again
    if harness.source == "own" and which("pi", path) != harness.found_as:
        return None
    return harness


def _signature(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_mtime_ns, stat.st_size]


def _node_at(executable: Path | None, path: str | None) -> Node | None:
    if executable is None or not os.access(executable, os.X_OK):
        return None
    return probe_node(executable, path)


def install_command(package: str) -> str:
    """The command that installs a system package here."""
    for manager, command in (
        ("apt-get", "apt-get install"),
        ("brew", "brew install"),
        ("dnf", "dnf install"),
        ("pacman", "pacman -S"),
        ("apk", "apk add"),
    ):
        if which(manager) is not None:
            sudo = "" if manager == "brew" or os.geteuid() == 0 else "sudo "
            return f"{sudo}{command} {package}"
    return f"install {package} with your system's package manager"
