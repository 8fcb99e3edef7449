"""How what was made in a container engine is undone: as data in a lease, and the command that is made of it.

A lease says which kind, and which machine, container or image. The shell scripts stand here. A program that reads a
lease runs no program that the lease names by a path, and no option of the engine's client that could run one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ramure.machines import scripts
from ramure.machines.errors import MachineError
from ramure.machines.reaper.leases import UNDO_LIMIT
from ramure.machines.scripts import KILL_MARKED

__all__ = ["KINDS", "MACHINE", "Undoing", "command", "undo"]

MACHINE: Final = "ramure.machine"
"""The label of a container: which machine's it is."""

PROGRAMS: Final = ("docker", "podman", "nerdctl")

OPTIONS: Final = frozenset(
    "--connection --context --host --identity --log-level --namespace --remote --tls --tlscacert --tlscert --tlskey "
    "--tlsverify --url -H -c -l -r".split()
)
"""Options of an engine's client that say where the engine is."""

REMOVE = 'left=$("$@" ps -aq --filter "label=$0") && { [ -z "$left" ] || "$@" rm -f -v $left; }'
HALT = 'left=$("$@" ps -q --filter "label=$0") && { [ -z "$left" ] || "$@" stop $left; }'
END_IN = r"""
script=$1 machine=$2; shift 2
running=$("$@" container inspect --format '{{.State.Running}}' "$0" 2>&1) || case $running in
    *"o such container"*) exit 0 ;;
    *) echo "$running" >&2; exit 1 ;;
esac
[ "$running" != true ] || "$@" exec --user 0 "$0" /bin/sh -c "$script" sh "$machine"
"""
FORGET = (
    scripts.REMOVE
    + r"""
for each in /dev/shm/ramure-"$1"-* "${TMPDIR:-/tmp}"/ramure-"$1"-* /tmp/ramure-"$1"-*; do
    [ "$(cat "$each/machine" 2>/dev/null)" = "$1" ] && remove "$each" "$(identity "$each")"
done
:
"""
)
"""Removes the private directories of machine $1: those that it has marked."""
REMOVE_IMAGE = 'left=$("$@" images -q "$0") && { [ -z "$left" ] || "$@" image rm -f "$0"; }'


@dataclass(frozen=True, slots=True)
class Undoing:
    """One thing to undo: ``kind`` is one of :data:`KINDS`, ``name`` what it is done to, ``machine`` the machine's id."""

    kind: str
    name: str
    machine: str = ""

    def fields(self, engine: Sequence[str]) -> dict[str, Any]:
        """The fields of its lease."""
        program, *options = engine
        return {
            "engine": os.path.basename(program),
            "options": list(options),
            "name": self.name,
            "machine": self.machine,
        }


_IDENTITY: Final = re.compile(r"[0-9a-f]{8,64}")
_NAME: Final = re.compile(r"[\w][\w.:/-]{0,255}", re.ASCII)
_COMMIT: Final = re.compile(r"ramure-commit:[0-9a-f]{8,64}")

KINDS: Final[Mapping[str, tuple[str, re.Pattern[str]]]] = {
    "container": (REMOVE, _IDENTITY),
    "container that stays": (HALT, _IDENTITY),
    "borrowed container": (END_IN, _NAME),
    "container image": (REMOVE_IMAGE, _COMMIT),
}
"""The script of each kind, and what its ``name`` must be."""


def command(engine: Sequence[str], what: Undoing) -> list[str]:
    """The command that undoes it, with this engine's command line."""
    script, _ = KINDS[what.kind]
    argv = ["/bin/sh", "-c", script]
    if what.kind in ("container", "container that stays"):
        return [*argv, f"{MACHINE}={what.name}", *engine]
    if what.kind == "borrowed container":
        return [*argv, what.name, f"{KILL_MARKED}\n{FORGET}", what.machine, *engine]
    return [*argv, what.name, *engine]


def undo(kind: str) -> Callable[[Mapping[str, Any]], None]:
    """The function that undoes what a dead program left, by the fields of its lease. It raises ValueError for fields
    that are wrong, and :class:`MachineError` with what the engine said."""

    def work(fields: Mapping[str, Any]) -> None:
        what = _read(kind, fields)
        engine = _engine(fields)
        try:
            done = subprocess.run(
                command(engine, what),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=UNDO_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(f"`{fields['engine']}` had no answer within {UNDO_LIMIT:g} s") from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise MachineError(said or f"`{fields['engine']}` ended with status {done.returncode}")

    return work


def _read(kind: str, fields: Mapping[str, Any]) -> Undoing:
    name, machine = fields["name"], fields["machine"]
    if not isinstance(name, str) or not KINDS[kind][1].fullmatch(name):
        raise ValueError(f"no name of a {kind}: {str(name)[:100]!r}")
    if not isinstance(machine, str) or not (machine == "" or _IDENTITY.fullmatch(machine)):
        raise ValueError(f"no id of a machine: {str(machine)[:100]!r}")
    return Undoing(kind, name, machine)


def _engine(fields: Mapping[str, Any]) -> list[str]:
    program, options = fields["engine"], fields["options"]
    if not isinstance(options, list) or not all(isinstance(option, str) and "\0" not in option for option in options):
        raise ValueError("the engine's options are no list of texts")
    by_hand = f"remove it yourself with {' '.join([str(program), *options])[:200]!r}, then delete the lease"
    if program not in PROGRAMS:
        raise MachineError(f"its engine is {program!r}, not one of {', '.join(PROGRAMS)}: {by_hand}")
    strange = _strange(options)
    if strange is not None:
        raise MachineError(f"its engine has the option {strange!r}, which does not only say where it is: {by_hand}")
    found = shutil.which(program)
    if found is None:
        raise MachineError(f"there is no {program!r} on the PATH")
    return [found, *options]


def _strange(options: Sequence[str]) -> str | None:
    """The first of an engine's options that does not only say where the engine is."""
    at = 0
    while at < len(options):
        name, equals, _ = options[at].partition("=")
        if name not in OPTIONS:
            return options[at]
        if not equals and name not in ("--tls", "--tlsverify", "--remote", "-r"):
            at += 1  # its value
            if at < len(options) and options[at].startswith("-"):
                return options[at]
        at += 1
    return None
