"""Files that are passed on between machines: they are read and written in a shared folder, and nowhere else.

Here is what any machine can do: by commands. They go into each directory of a path, ask the kernel where that has led them,
and then work in it, wherever its name leads by then. The content waits in a private temporary directory, so that the machine's
own ``read_file`` and ``write_file`` carry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from typing import TYPE_CHECKING, Final

from ramure.errors import OperationalError
from ramure.machines.asking import ask
from ramure.machines.base import OUR_LIMIT
from ramure.machines.checks import check_path, check_size
from ramure.machines.errors import FileRefused, MachineError, NoSuchFile, OutsideFolder
from ramure.machines.files.framing import new_token, packed
from ramure.masking import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ramure.machines.base import Machine

__all__ = ["PASSING_LIMIT", "limited", "read_by_command", "write_by_command"]

logger: logging.Logger = get_logger(__name__)

PASSING_LIMIT: Final = 120.0
"""Seconds that reading or writing a file that is passed on may take, and a second more for each MiB."""

_PLACE: Final = r"""
LC_ALL=C; export LC_ALL
unset CDPATH
folder=$(printf %b. "$1"); folder=${folder%.}
path=$(printf %b. "$2"); path=${path%.}
refuse() { printf '%s\n' "$1" >&2; exit 46; }
outside() { printf '%s\n' "${spelled:-$folder}" >&2; exit 43; }
regular() {
    if [ -f "$1" ] || [ ! -e "$1" ]; then return; fi
    if [ -d "$1" ]; then what=directory
    elif [ -p "$1" ]; then what=FIFO
    elif [ -S "$1" ]; then what=socket
    else what=device; fi
    refuse "it is a $what, not a regular file"
}
where() {
    here=$(env pwd -P 2>/dev/null && echo .) || here=$(readlink /proc/self/cwd && echo .)
    here=${here%??}
    case $here in /*) ;; *) refuse "the machine does not tell where that is: it has neither pwd nor /proc" ;; esac
}
within() { where; case $here/ in "${root%/}"/*) ;; *) outside ;; esac; }
enter() { cd -P -- "$1" 2>/dev/null || refuse "Permission denied"; }
descend() {
    rest=$1/
    while [ -n "$rest" ]; do
        name=${rest%%/*} rest=${rest#*/}
        case $name in "" | .) continue ;; esac
        if [ ! -e "./$name" ]; then
            if [ -z "$make" ] || [ -L "./$name" ]; then exit 44; fi
            mkdir -- "./$name" 2>/dev/null || [ -d "./$name" ] || refuse "Permission denied"
        fi
        [ -d "./$name" ] || refuse "Not a directory: $name"
        enter "./$name"
        within
    done
}
place() {
    case $1 in
        "${root%/}"/*) enter "$root"; within; inside=${1#"${root%/}"/} ;;
        "${spelled%/}"/*) enter "$root"; within; inside=${1#"${spelled%/}"/} ;;
        /*) outside ;;
        *) inside=$1 ;;
    esac
    case $inside in */*) descend "${inside%/*}" ;; esac
    name=${inside##*/}
    case $name in "" | . | ..) refuse "it is a directory, not a regular file" ;; esac
}
arrive() {
    place "$path"
    links=0
    while [ -L "./$name" ]; do
        links=$((links + 1))
        [ "$links" -le 40 ] || refuse "Too many levels of symbolic links"
        to=$(readlink -- "./$name"; echo .)
        place "${to%??}"
    done
    where
}
start() {
    where
    root=$here workdir=$PWD
    case $folder in
        "${root%/}"/*) spelled=$folder folder=${folder#"${root%/}"/}; descend "$folder" ;;
        "${workdir%/}"/*) spelled=$folder folder=${folder#"${workdir%/}"/}; descend "$folder" ;;
        "$root" | "$workdir" | .) spelled=$workdir ;;
        /*)
            spelled=$folder
            if [ -n "$make" ]; then mkdir -p -- "$folder"; fi
            [ -d "$folder" ] || exit 44
            enter "$folder" ;;
        *) spelled=$workdir/$folder; descend "$folder" ;;
    esac
    where
    root=$here
}
"""
"""``start`` goes into the folder $1 and ``arrive`` into the directory of the file $2 in it, whose name there is ``$name``. Each
directory is checked once we are in it: so what it is swapped for, before or after, leads nowhere else. ``env pwd`` and ``/proc`` ask
the kernel; a shell's own ``pwd`` may say what it remembers."""

_READ: Final = (
    "make=\n"
    + _PLACE
    + r"""
start; arrive
[ -e "./$name" ] || exit 44
regular "./$name"
exec 3<"./$name" || exit 47
regular /dev/fd/3
if opened=$(readlink /proc/self/fd/3 && echo .) && [ -n "$opened" ]; then
    case $opened in "${root%/}"/*) ;; *) outside ;; esac
else
    if [ -L "./$name" ] || [ ! "./$name" -ef /dev/fd/3 ]; then outside; fi
fi
size=$(wc -c </dev/fd/3)
if [ "$size" -gt "$3" ]; then printf '%s\n' "$size" >&2; exit 49; fi
umask 077
case ${TMPDIR-} in /*) temporary=$TMPDIR ;; *) temporary=/tmp ;; esac
stage=$(mktemp -d "$temporary/ramure-passing-XXXXXX") || exit 47
if head -c "$3" <&3 >"$stage/file"; then printf '%s %s\n' "$((size))" "$stage"; else rm -rf -- "$stage"; exit 47; fi
"""
)
"""Copies the file, if it has at most $3 bytes, to a private directory; prints its size and that directory. That it is inside
is seen of the descriptor: its name may have become a link before it was opened."""

_STAGE: Final = r"""
case ${TMPDIR-} in /*) temporary=$TMPDIR ;; *) temporary=/tmp ;; esac
umask 077
exec mktemp -d "$temporary/ramure-passing-XXXXXX"
"""

_WRITE: Final = (
    "make=1\n"
    + _PLACE
    + r"""
stage=$3
start; arrive
regular "./$name"
kept=
if [ -e "./$name" ]; then
    [ -w "./$name" ] || refuse "Permission denied"
    kept=$(stat -c '%a %u:%g' -- "./$name" 2>/dev/null)
fi
temporary=./.ramure-$4
trap 'rm -f -- "$temporary"' EXIT
(set -C; cat <"$stage/file" >"$temporary") || exit 47
if [ -n "$kept" ]; then
    chown "${kept#* }" "$temporary" 2>/dev/null
    chmod "${kept% *}" "$temporary"
fi
mv -fT -- "$temporary" "./$name" 2>/dev/null && exit 0
regular "./$name"
[ ! -L "./$name" ] || outside
mv -f -- "$temporary" "./$name" || exit 47
"""
)
"""Puts the file of the private directory $3 in its place, under another name at first: a rename replaces a link and does not
follow it. (Where ``mv`` has no ``-T``, one that would move into a directory is refused by a look before.)"""


@contextlib.asynccontextmanager
async def limited(doing: str, path: str, size: int) -> AsyncIterator[None]:
    """For machines whose file operations have no limit of their own."""
    limit = PASSING_LIMIT + size / (1 << 20)
    try:
        async with asyncio.timeout(limit) as timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise OperationalError(f"{doing} {path!r} took longer than {limit:g} s, and was given up") from error


async def read_by_command(machine: Machine, folder: str, path: str, limit: int) -> bytes:
    """As :meth:`Machine.read_within`, on any machine that has a shell."""
    check_path(path)
    said = await _ask(machine, path, _READ, [packed(folder), packed(path), str(limit)], limit)
    size, _, stage = said.removesuffix("\n").partition(" ")
    try:
        async with limited("reading", path, int(size)):
            data = await machine.read_file(f"{stage}/file")
    finally:
        await _drop(machine, stage)
    check_size(path, len(data), limit)
    return data


async def write_by_command(machine: Machine, folder: str, path: str, data: bytes) -> None:
    """As :meth:`Machine.write_within`, on any machine that has a shell."""
    check_path(path)
    stage = (await _ask(machine, path, _STAGE, [])).removesuffix("\n")
    try:
        async with limited("writing", path, len(data)):
            await machine.write_file(f"{stage}/file", data)
        await _ask(machine, path, _WRITE, [packed(folder), packed(path), stage, new_token()], len(data))
    finally:
        await _drop(machine, stage)


async def _ask(machine: Machine, path: str, script: str, words: list[str], size: int = 0) -> str:
    """What a script says. Raises FileRefused for what it refuses."""
    result = await ask(machine, ["/bin/sh", "-c", script, "sh", *words], limit=OUR_LIMIT + size / (1 << 24))
    said = result.stderr.strip().rpartition("\n")[2]
    match result.exit_code:
        case 0:
            return result.stdout
        case 43:
            raise OutsideFolder(path, said)
        case 44:
            raise NoSuchFile(path)
        case 49 if said.strip().isdecimal():
            check_size(path, int(said), size)
    raise FileRefused(path, said or f"status {result.exit_code}")


async def _drop(machine: Machine, stage: str) -> None:
    try:
        (await machine.exec(f"rm -rf -- {shlex.quote(stage)}", timeout=OUR_LIMIT)).check(f"remove {stage}")
    except (MachineError, OSError) as error:  # the file was passed on, or it was told why not
        logger.warning("%s: %s stays: %s", machine.describe(), stage, error)
