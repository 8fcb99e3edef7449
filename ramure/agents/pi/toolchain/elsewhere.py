"""Finding a Node and a pi that fit together on another machine: a script for its shell, and the reading of what that
says. Pure: no I/O here.

The order is that of this host: what ``ramure setup`` has chosen there, if anything; the user's own pi on the ``PATH``,
then what ``ramure setup`` has installed there; last
the very files that agents on this host use, which are there where the machine shows this host's (a sandbox does).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from ramure.agents.pi.toolchain.errors import ToolError, ToolMissing, ToolTooOld
from ramure.agents.pi.toolchain.find import Harness
from ramure.agents.pi.toolchain.probe import Node, Pi, parse_manifest
from ramure.agents.pi.toolchain.versions import PI_MINIMUM, node_needed, parse_version

__all__ = ["FIND", "choose", "find_arguments"]

FIND: Final = r"""
tab=$(printf '\t')
within() {
    if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi
}
a_node() {
    [ -x "$2" ] || return 0
    said=$("$2" -p 'process.version + "\t" + process.execPath' </dev/null 2>/dev/null) || return 0
    printf 'node\t%s\t%s\n' "$1" "$said"
}
a_pi() {
    [ -e "$2" ] || return 0
    up=$(readlink -f -- "$2")
    while up=$(dirname -- "$up") && [ "$up" != / ]; do
        if [ -f "$up/package.json" ]; then
            # Not that of a directory above a wrapper: of a version manager, or a home that has one.
            grep -q '"name" *: *"@[^"]*/pi-coding-agent"' "$up/package.json" || break
            printf 'pi\t%s\t%s\t%s\t' "$1" "$2" "$up"
            tr '\t\r\n' '   ' <"$up/package.json"
            echo
            return 0
        fi
    done
    said=$(within 20 "$2" --version </dev/null 2>/dev/null | tail -n 1) || return 0
    case "$said" in [0-9]*.[0-9]*.[0-9]*) ;; *) return 0 ;; esac
    printf 'program\t%s\t%s\t%s\n' "$1" "$2" "$said"
}
home=${RAMURE_HOME:-$HOME/.ramure}
a_node own "$(command -v node)"
a_pi own "$(command -v pi)"
for at in "$home"/toolchain/node-*/bin/node; do a_node private "$at"; done
for at in "$home"/toolchain/pi-*/node_modules/@*/pi-coding-agent/package.json; do a_pi private "$at"; done
if [ -f "$home/toolchain/current.json" ]; then
    printf 'current\t'
    tr '\t\r\n' '   ' <"$home/toolchain/current.json"
    echo
fi
[ -z "$1" ] || a_node here "$1"
[ -z "$2" ] || a_pi here "$2"
"""
"""No function may be called node or pi here: ``command -v`` would find that.

$1 and $2: the Node and the script of this host's pi, if there are any. Prints a line for each Node and pi there."""

_SOURCES: Final = ("own", "private", "here")


def find_arguments(here: Harness | None) -> tuple[str, str]:
    """The arguments of :data:`FIND`, from what this host's agents use."""
    return ("", "") if here is None else (str(here.node or ""), str(here.pi))


def choose(said: str, where: str, remedy: str) -> Harness:
    """The pi and Node to use, from what :data:`FIND` said on the machine ``where``.

    Raises :class:`ToolMissing` or :class:`ToolTooOld`, with ``remedy``.
    """
    nodes: list[tuple[str, Node]] = []
    pis: list[tuple[str, Pi]] = []
    current: tuple[object, object] = (None, None)
    for line in said.splitlines():
        kind, *fields = line.split("\t")
        match kind, fields:
            case "node", [source, version_text, path]:
                version = parse_version(version_text)
                if version is not None:
                    nodes.append((source, Node(Path(path), version)))
            case "current", [record]:
                current = _current(record)
            case "program", [source, path, version_text]:
                version = parse_version(version_text)
                if version is not None:
                    pis.append((source, Pi(version, node_needed(version), None, Path(path))))
            case "pi", [source, _, directory, manifest]:
                found = parse_manifest(manifest, Path(directory))
                if found is not None:
                    pis.append((source, found))
    pis.sort(key=lambda each: (_SOURCES.index(each[0]), [-number for number in each[1].version]))
    if (chosen := _chosen(current, pis, nodes)) is not None:
        return chosen
    problem: ToolError | None = None
    for source, pi in pis:
        fitting = _with_node(source, pi, nodes, where, remedy)
        if isinstance(fitting, Harness):
            return fitting
        problem = problem or fitting
    raise problem or ToolMissing("pi", f"there is no pi on {where}", remedy)


def _current(record: str) -> tuple[object, object]:
    """The pi and the Node that ``ramure setup`` has chosen there."""
    try:
        said = json.loads(record)
        return said["pi"], said["node"]
    except (ValueError, KeyError, TypeError):
        return None, None


def _chosen(
    current: tuple[object, object], pis: Sequence[tuple[str, Pi]], nodes: Sequence[tuple[str, Node]]
) -> Harness | None:
    """What was chosen, if it is there yet."""
    for source, pi in pis:
        for _, node in nodes:
            if pi.cli is not None and (str(pi.cli), str(node.path)) == current and node.version >= pi.needs_node:
                kind: Literal["own", "private"] = "own" if source == "own" else "private"
                return Harness(kind, pi.cli, pi.version, node.path, node.version)
    return None


def _with_node(source: str, pi: Pi, nodes: Sequence[tuple[str, Node]], where: str, remedy: str) -> Harness | ToolError:
    kind: Literal["own", "private"] = "own" if source == "own" else "private"
    if pi.version < PI_MINIMUM:
        least = f"{PI_MINIMUM.major}.{PI_MINIMUM.minor}"
        return ToolTooOld("pi", f"pi {pi.version} on {where} is too old ({least} or newer is needed)", remedy)
    if pi.cli is None:
        assert pi.program is not None
        return Harness(kind, pi.program, pi.version, None, None)
    # A pi's own Node first; then any that fits, the newest first.
    ordered = sorted(nodes, key=lambda each: (each[0] == source, each[1].version), reverse=True)
    for _, node in ordered:
        if node.version >= pi.needs_node:
            return Harness(kind, pi.cli, pi.version, node.path, node.version)
    needs = f"pi {pi.version} on {where} needs Node {pi.needs_node} or newer"
    if nodes:
        return ToolTooOld("node", f"{needs}, and its Node is {ordered[0][1].version}", remedy)
    return ToolMissing("node", f"{needs}, and there is none", remedy)
