"""The owner's side of ``tree_program``: how the process tree of one life of pi is started, ended, and what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "END_MARKED",
    "END_TREE",
    "HERE",
    "REPORT",
    "TREE",
    "Daemons",
    "EndedTree",
    "environment_file",
    "held",
    "parent",
    "programs",
    "read_report",
]

PROGRAM: Final = Path(__file__).with_name("tree_program.py")

TREE: Final = "RAMURE_TREE"
"""The variable that the parents of a tree have in their environment, with the tree's mark; what they start has it not."""

HERE: Final = (sys.executable, "-I", "-S", str(PROGRAM))
"""The parent's program on this host."""

Daemons = Literal["end", "keep"]


def programs(interpreter: str) -> dict[str, bytes]:
    """The files that a parent needs on another machine, with this Python or perl; the first is the program."""
    perl = interpreter.rpartition("/")[2].startswith("perl")
    names = ["tree_program.pl"] if perl else ["tree_program.py", "reaper_program.py"]
    return {name: PROGRAM.with_name(name).read_bytes() for name in names}


def parent(interpreter: str, program: str) -> tuple[str, ...]:
    """How the program is run there."""
    return (interpreter, program) if program.endswith(".pl") else (interpreter, "-I", "-S", program)


@dataclass(frozen=True, slots=True)
class EndedTree:
    """A command line that was ended with a life of pi, and the directory that it ran in."""

    directory: str
    command: str


def environment_file(environment: Mapping[str, str]) -> bytes:
    """The content of a file that holds an environment: NUL-separated ``NAME=value``. Write it with mode 0600.

    Raises ValueError for what can be in no environment.
    """
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
        if "\0" in value:
            raise ValueError(f"the value of the environment variable {name} holds a NUL character")
    return b"".join(f"{name}={value}\0".encode("utf-8", "surrogateescape") for name, value in environment.items())


def held(
    argv: Sequence[str],
    parent: Sequence[str],
    *,
    mark: str,
    environment: str,
    first: str = "",
    report: str = "",
    daemons: Daemons = "end",
) -> list[str]:
    """The pane's command that runs ``argv`` below ``parent``; see ``tree_program`` for what the files are."""
    return ["env", f"{TREE}={mark}", *parent, daemons, report, first, environment, *argv]


def read_report(text: str) -> list[EndedTree]:
    """What the program has written down."""
    lines = (line.partition("\t") for line in text.splitlines())
    return [EndedTree(directory, command) for directory, tab, command in lines if tab]


MARKED: Final = r"""
marked() { grep -l -s -a -F -- "$1" /proc/[0-9]*/environ | sed 's|/proc/||; s|/environ||' | grep -v -x "$$"; }
is() { grep -q -s -a -F -- "$2" "/proc/$1/environ"; }
alive() {
    kill -0 "$1" 2>/dev/null || return 1
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    case "${stat##*) }" in Z*) return 1 ;; esac
}
"""

REPORT: Final = (
    MARKED
    + r"""
left=$1
while [ "$left" -gt 0 ] && [ -n "$(marked "RAMURE_TREE=$0")" ]; do sleep 0.05; left=$((left - 1)); done
[ -f "$2" ] && cat "$2" && rm -f -- "$2"
:
"""
)
"""Waits, for $1 times 50 ms at most, until the tree with the mark $0 has been ended; prints its report, the file $2."""

END_MARKED: Final = (
    MARKED
    + r"""
mark=$0 left=$1 pid=$2 daemons=$3
[ -e /proc/self/environ ] || exit 0
if [ "$left" -gt 0 ]; then
    is "${pid:-none}" "$mark" || pid=$(marked "RAMURE_TREE=$mark" | sort -n | head -n 1)
    [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null
    while [ "$left" -gt 0 ] && is "${pid:-none}" "$mark" && alive "$pid"; do sleep 0.05; left=$((left - 1)); done
fi
if [ "$daemons" = keep ]; then
    for each in $(marked "RAMURE_TREE=$mark"); do kill -USR1 "$each" 2>/dev/null; done
    [ -n "$pid" ] && is "$pid" "$mark" && ! is "$pid" "RAMURE_TREE=$mark" && kill -KILL "$pid" 2>/dev/null
    exit 0
fi
for each in $(marked "RAMURE_TREE=$mark"); do kill -USR2 "$each" 2>/dev/null; done
for each in $(marked "$mark"); do
    is "$each" "RAMURE_TREE=$mark" && continue
    printf '%s\t%s\n' "$(readlink "/proc/$each/cwd")" "$(tr '\0\n\t' '   ' <"/proc/$each/cmdline")"
done 2>/dev/null
left=100
while [ "$left" -gt 0 ] && [ -n "$(marked "RAMURE_TREE=$mark")" ]; do sleep 0.05; left=$((left - 1)); done
for again in 1 2 3; do
    for each in $(marked "$mark"); do kill -KILL "$each" 2>/dev/null; done
done
:
"""
)
"""Ends the tree with the mark $0, which may have lost its terminal: SIGTERM to the process $2, if that bears the mark, or to
the tree's parent; after $1 waits of 50 ms all of it is killed, and what else bears the mark, which is printed as in a report; with
$3 = keep, pi alone."""

END_TREE: Final = r"""
tree() {
    # cat fails when a process ends between the listing and the look; what it read is good all the same.
    { if [ -e /proc/self/stat ]; then cat /proc/[0-9]*/stat 2>/dev/null; else ps -Ao pid=,comm=,state=,ppid=; fi; } | sed 's/ (.*) / x /' | awk -v root="$1" '
        { parent[$1] = $4; born[$1] = $22 }
        END { for (pid in parent) { at = pid; while (at in parent && at != root) at = parent[at]
              if (at == root) print pid ":" born[pid] } }'
}
alive() {
    kill -0 "$1" 2>/dev/null || return 1
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    case "${stat##*) }" in Z*) return 1 ;; esac
}
all=$(tree "$0") parent=
grep -q -s -a "RAMURE_TREE=" "/proc/$0/environ" && parent=yes
kill -TERM "$0" 2>/dev/null
left=$1
while [ "$left" -gt 0 ] && alive "$0"; do sleep 0.05; left=$((left - 1)); done
if [ -n "$parent" ]; then
    kill -USR1 "$0" 2>/dev/null
    left=100
    while [ "$left" -gt 0 ] && alive "$0"; do sleep 0.05; left=$((left - 1)); done
    alive "$0" || exit 0
fi
for entry in $all $(tree "$0"); do
    pid=${entry%%:*}
    now=$(sed 's/ (.*) / x /' "/proc/$pid/stat" 2>/dev/null | awk '{ print $22 }')
    [ "$now" = "${entry#*:}" ] && kill -KILL "$pid" 2>/dev/null
done
:
"""
"""Ends a process and all below it: SIGTERM to the process $0, and after $1 waits of 50 ms SIGKILL to what is left. The parent
of a tree does that itself. A process id counts only with the time its process was born, for ids are used again."""
