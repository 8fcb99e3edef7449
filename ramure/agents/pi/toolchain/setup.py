"""``ramure setup``: make sure that there is a Node and a pi that fit together.

First the plan, which is data, then carrying it out: into a directory beside the final one, checked, then renamed, under
a lock. An interrupted setup leaves only a directory ``tmp-…``, which the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ramure.agents.pi.toolchain.errors import SetupBusy, SetupFailed, ToolError, ToolMissing
from ramure.agents.pi.toolchain.find import (
    SETUP,
    Harness,
    find_harness,
    find_own,
    find_private,
    private_nodes,
    private_pis,
    remember,
    toolchain_dir,
)
from ramure.agents.pi.toolchain.install import install_node, install_pi, npm_of
from ramure.agents.pi.toolchain.probe import Node, probe_node, which
from ramure.agents.pi.toolchain.versions import NODE_WHEEL, PI_MINIMUM, PI_TESTED, node_needed, parse_version
from ramure.errors import UsageError
from ramure.home import private_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Plan", "check_wishes", "plan_setup", "set_up"]

_LOCK_SECONDS = 1200.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a setup will do. Either ``use`` is set, and nothing needs installing; or a pi is installed: the first of
    ``pis`` that installs, on ``node``, or on a private Node of version ``install_node`` where ``node`` is None."""

    why: str
    use: Harness | None = None
    pis: tuple[str, ...] = ()
    node: Node | None = None
    install_node: str | None = None

    def lines(self) -> list[str]:
        """The plan for a person."""
        if self.use is not None:
            return [f"{self.why}: {self.use}"]
        node = f"with Node {self.node.version} at {self.node.path}" if self.node else "on it"
        first = [f"install a private Node {self.install_node}"] if self.install_node else []
        otherwise = "".join(f", or {version} where that does not install" for version in self.pis[1:])
        return [self.why, *first, f"install pi {self.pis[0]}{otherwise}, {node}"]


def plan_setup(
    home: Path | None = None,
    *,
    pi: str | None = None,
    node: str | None = None,
    force: bool = False,
    private: bool = False,
    path: str | None = None,
) -> Plan:
    """What ``set_up`` with the same arguments would do now. Installs nothing.

    Without a wish (``pi``, ``node``: a version) what is remembered or fits already is used; ``private`` passes over the
    user's own pi, ``force`` over anything installed. Raises :class:`UsageError` for a version that will not do.
    """
    check_wishes(pi, node)
    directory = toolchain_dir(home)
    why = "asked for"
    if not (force or pi or node):
        found = _fitting(home, path, private)
        if isinstance(found, Harness):
            return Plan("this fits", use=found)
        why = found.problem
    pis = (pi,) if pi else ("latest", str(PI_TESTED))
    if pi and not force:
        ready = _installed(directory, pi, node, path, private)
        if ready is not None:
            return Plan("this is the version asked for", use=ready)
    needed = node_needed(parse_version(pi) if pi else None)
    if not (node or force):
        for candidate in _nodes(directory, path):
            if candidate.version >= needed and npm_of(candidate, path) is not None:
                return Plan(why, pis=pis, node=candidate)
    return Plan(why, pis=pis, install_node=node or str(NODE_WHEEL.major))


def set_up(
    home: Path | None = None,
    *,
    pi: str | None = None,
    node: str | None = None,
    force: bool = False,
    private: bool = False,
    path: str | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Harness:
    """Carry out the plan, and make the result the pi that runs use. ``say`` gets lines about the progress.

    Raises :class:`SetupFailed` (nothing half-installed is left), :class:`SetupBusy`, :class:`UsageError`.
    """
    directory = private_dir(toolchain_dir(home))
    with _locked(directory, say):
        plan = plan_setup(home, pi=pi, node=node, force=force, private=private, path=path)
        harness = plan.use or _carry_out(plan, directory, path, say)
        remember(directory, harness)
    return harness


def check_wishes(pi: str | None, node: str | None) -> None:
    """Raise :class:`UsageError` for versions that will not do."""
    version = parse_version(pi) if pi else None
    if pi and pi != "latest" and (version is None or str(version) != pi.partition("-")[0]):
        raise UsageError(f"--pi takes a whole version such as {PI_TESTED}, or latest, not {pi!r}")
    if version is not None and version < PI_MINIMUM:
        raise UsageError(f"pi {pi} is too old: {PI_MINIMUM.major}.{PI_MINIMUM.minor} or newer is needed")
    chosen = parse_version(node) if node else None
    if node and (chosen is None or not node.replace(".", "").isdigit()):
        raise UsageError(f"--node takes a version such as {NODE_WHEEL.major} or 22.19.0, not {node!r}")
    if node and chosen is not None:
        least = node_needed(version)
        wide = chosen._replace(**dict.fromkeys(("minor", "patch")[node.count(".") :], 999))
        if wide < least:
            of = f"pi {pi}" if pi else "npm's newest pi"
            raise UsageError(f"{of} needs Node {least} or newer, and --node says {node}")


def _fitting(home: Path | None, path: str | None, private: bool) -> Harness | ToolError:
    if private:
        return find_private(toolchain_dir(home), path) or ToolMissing("pi", "no private pi is installed", SETUP)
    try:
        return find_harness(home, path)
    except ToolError as error:
        return error


def _installed(directory: Path, pi: str, node: str | None, path: str | None, private: bool) -> Harness | None:
    """The pi of this very version that is there already, with a Node that fits it and the wish."""
    own = find_own(path)
    if isinstance(own, Harness) and not (node or private) and str(own.pi_version) == pi:
        return own
    for found in private_pis(directory):
        if str(found.version) != pi or found.cli is None:
            continue
        for candidate in private_nodes(directory) if node else _nodes(directory, path):
            wished = node is None or f"{candidate.version}.".startswith(f"{node}.")
            if wished and candidate.version >= found.needs_node:
                return Harness("private", found.cli, found.version, candidate.path, candidate.version)
    return None


def _nodes(directory: Path, path: str | None) -> Iterator[Node]:
    yield from private_nodes(directory)
    command = which("node", path)
    own = probe_node(command, path) if command else None
    if own is not None:
        yield own


def _carry_out(plan: Plan, directory: Path, path: str | None, say: Callable[[str], object]) -> Harness:
    for left in directory.glob("tmp-*"):
        shutil.rmtree(left)
    say(plan.why)
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=directory, ignore_cleanup_errors=True) as work:
        node = plan.node or _add_node(plan, directory, Path(work), path, say)
        pi, where = _add_pi(plan, node, directory, Path(work), path, say)
    say(f"pi {pi} on Node {node.version} is in {where}")
    found = next(p for p in private_pis(directory) if str(p.version) == pi)
    if found.cli is None:
        raise SetupFailed(f"{where} vanished while it was set up")
    return Harness("private", found.cli, found.version, node.path, node.version)


def _add_node(plan: Plan, directory: Path, work: Path, path: str | None, say: Callable[[str], object]) -> Node:
    say(f"installing a private Node {plan.install_node} …")
    room = private_dir(work / "node-work")
    new = install_node(plan.install_node or "", room, path)
    final = directory / f"node-{new.version}"
    _put(room / "node", final, work)
    return Node(final / "bin" / "node", new.version)


def _add_pi(
    plan: Plan, node: Node, directory: Path, work: Path, path: str | None, say: Callable[[str], object]
) -> tuple[str, Path]:
    for number, version in enumerate(plan.pis):
        say(f"installing pi {version} …")
        room = private_dir(work / f"pi-work-{number}")
        try:
            new = install_pi(version, node, room, path)
        except SetupFailed as error:
            if version == plan.pis[-1]:
                raise
            said = [line for line in str(error).splitlines()[1:] if " code " not in line]
            say(f"pi {version} does not install ({said[0] if said else error})")
            continue
        for scrap in ("npm-cache", "agent"):
            shutil.rmtree(room / scrap, ignore_errors=True)
        final = directory / f"pi-{new.version}"
        _put(room, final, work)
        return str(new.version), final
    raise SetupFailed("there is no pi to install")


def _put(new: Path, final: Path, work: Path) -> None:
    """Move what is complete to its place; what was there before goes with the work directory."""
    if final.exists():
        final.rename(work / f"old-{final.name}")
    new.rename(final)


@contextlib.contextmanager
def _locked(directory: Path, say: Callable[[str], object]) -> Iterator[None]:
    """One setup at a time in this home. The lock goes with its holder, however that ends."""
    with os.fdopen(os.open(directory / "lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SetupBusy(f"another ramure setup works in {directory} since {_LOCK_SECONDS:g} s") from None
                if not waiting:
                    say("waiting for another ramure setup …")
                waiting = True
                time.sleep(0.2)
        yield
