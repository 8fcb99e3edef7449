"""Shell scripts that run on hosts over SSH; see :mod:`ramure.machines.scripts` for what any system has."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

from ramure.machines.errors import MachineError
from ramure.machines.files.framing import MARK, UNPACK
from ramure.machines.scripts import IDENTITY, JANITOR, KILL_MARKED, REMOVE

__all__ = ["HIRE", "HOME_OF", "JANITOR", "LIVE", "PREPARE", "SFTP_SERVER", "STOP", "Made", "Prepared", "run_script"]

PREPARE: Final = (
    IDENTITY
    + r"""
umask 077
id=$1 workdir=$2 private=$3 made=
temporary=${TMPDIR:-/tmp}
case $temporary in /*) ;; *) temporary=/tmp ;; esac
fail() { [ -z "$made" ] || { rm -f -- "$made/machine"; rmdir -- "$made"; }; exit 1; }
if [ -z "$private" ] || [ -h "$private" ] || [ ! -O "$private" ] || [ "$(cat "$private/machine" 2>/dev/null)" != "$id" ]; then
    private=$(mktemp -d "$temporary/ramure-XXXXXXXX") || exit 1
    made=$private
    echo "$id" >"$private/machine" || { echo "no file can be written in $temporary: no room?" >&2; fail; }
fi
if [ -z "$workdir" ]; then
    workdir=$temporary/ramure-work-$id
    mkdir -- "$workdir" || fail
    new=new
elif [ -d "$workdir" ]; then new=
else
    mkdir -p -- "$workdir" || fail
    new=new
fi
CDPATH= cd -- "$workdir" || fail
workdir=$(pwd)
case "$(uname -sm)" in
    "Linux x86_64") number=157 ;;
    "Linux aarch64") number=167 ;;
    *) number= ;;
esac
[ -n "$number" ] && perl -e "exit(syscall($number, 36, 1, 0, 0, 0) != 0)" 2>/dev/null || number=
printf '%s\n' "$private" "$(identity "$private")" "$(identity .)" "$new" "$(command -v bash || echo /bin/sh)" "$(id -u)" \
    "$(id -un)" "$number" "$workdir"
"""
)
"""For the machine $1: makes the working directory $2 if it is missing (if that is empty, a temporary one), and a private
directory, unless $3 is the one that was made before. Prints what there is, a line each, the working directory last. With
perl a command can be made a child subreaper (prctl(2)), as the reaper does on this host."""


def run_script(workdir: str, shell: str) -> bytes:
    """The script that runs commands on a host; it stands as ``run`` in the machine's private directory."""
    return RUN.format(workdir=shlex.quote(workdir), shell=shlex.quote(shell), mark=MARK, unpack=UNPACK).encode(
        "utf-8", "surrogateescape"
    )


RUN: Final = r"""
ramure_token=$1 ramure_how=$2 ramure_command=$3
shift 3
ramure_private=${{0%/*}}
{mark}
[ -f "$ramure_private/env" ] || {{ ramure_mark lost; exit 125; }}
. "$ramure_private/env"; RAMURE_EXEC=$ramure_token; export RAMURE_EXEC
if [ "$ramure_how" = packed ]; then
    ramure_command=$(printf %b. "$ramure_command"); ramure_command=${{ramure_command%.}}
    {unpack}
fi
[ "${{SHLVL:-0}}" -gt 0 ] 2>/dev/null || SHLVL=1
export SHLVL
ramure_mark "start $$"
if ! cd -- {workdir}; then ramure_code=126
elif [ "$ramure_how" = file ]; then
    "$@" {shell} -c 'script=$(cat); exec </dev/null; eval "$script"' <"$ramure_private/$ramure_token"
    ramure_code=$?
else
    "$@" {shell} -c "$ramure_command" </dev/null
    ramure_code=$?
fi
ramure_left=
{{ read -r ramure_left </proc/$$/task/$$/children; }} 2>/dev/null
[ -z "$ramure_left" ] || {{ sleep 0.1 || sleep 1; }} 2>/dev/null
ramure_mark "end $ramure_code"
exit $ramure_code
"""
"""Runs a command: $1 is its token, $3 the command, as it is or packed as $2 says (or it stands in a file). What follows is
put before it: how to become another user, who can read nothing of the private directory. A host that was started anew may
have lost that: then it says so, and runs nothing. (bash reads ~/.bashrc in what sshd starts if SHLVL says that it is the first
shell.) What a command leaves running has 0.1 s to say the last of its output."""

SINCE: Final = r"""
since() {
    { cat /proc/sys/kernel/random/boot_id; sed 's/.*) //' "/proc/$1/stat" | cut -d " " -f 20; } 2>/dev/null ||
        ps -o lstart= -p "$1"
}
works() {
    { read -r janitor && read -r began; } 2>/dev/null <"$1/janitor" && kill -0 "$janitor" 2>/dev/null &&
        [ "$(echo $(since "$janitor"))" = "$began" ]
}
"""
"""Whether the janitor of the private directory $1 works. A boot and the time in it say that a process is still who it
was: its number may be another's after a reboot that has kept the directory."""

HIRE: Final = (
    SINCE
    + r"""
script=$1
shift
works "$2" && exit 0
setsid=$(command -v setsid)
$setsid /bin/sh -c "$script" sh "$@" </dev/null >/dev/null 2>&1 &
{ echo $!; echo $(since $!); } >"$2/janitor"
"""
)
"""Starts the janitor, whose script is $1 and whose machine $2, in the private directory $3, unless one works there. (macOS has
no setsid: it does without.)"""

LIVE: Final = (
    SINCE
    + r"""
rm -f -- "$1/quiet"
[ -d "$1" ] && ! works "$1" && echo gone
:
"""
)
"""A sign of life for the janitor of the directory $1; says when there is a directory, and no janitor."""

STOP: Final = (
    SINCE
    + REMOVE
    + r"""
works "$2" || janitor=
"""
    + KILL_MARKED
    + r"""
shift 2
while [ $# -gt 1 ]; do remove "$1" "$2"; shift 2; done
[ -z "$janitor" ] || { kill -KILL "-$janitor" || kill -KILL "$janitor"; } 2>/dev/null
:
"""
)
"""Ends what the commands of machine $1 left running, removes the directories that follow, each before its identity, and
dismisses the janitor of the private directory $2: last, so that it sees to what a link that breaks here leaves."""

HOME_OF: Final = r"""getent passwd -- "$1" 2>/dev/null | cut -d: -f6 | grep . || echo /"""

SFTP_SERVER: Final = r"""
for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/libexec/sftp-server /usr/lib/ssh/sftp-server \
    /usr/lib/sftp-server /usr/libexec/sftp-server-openssh "$(command -v sftp-server)"; do
    [ -x "$server" ] || continue
    printf '\036%s start 0\n' "$1"
    exec "$server"
done
exit 127
"""
"""Becomes the host's SFTP server, after a mark with the token $1: for hosts whose shells print before it."""


PRIVATE: Final = re.compile(r"/.*/ramure-[A-Za-z0-9]{8}\Z", re.DOTALL)
"""What a private directory is called."""


@dataclass(frozen=True)
class Made:
    """A directory on the host: ``identity`` says what it is, so that no other at the same path is ever removed."""

    path: str
    identity: str


@dataclass(frozen=True)
class Prepared:
    """What :data:`PREPARE` reports. ``new``: it made the working directory. ``prctl``: the system call's number there, ""
    without perl. ``user``: id and name."""

    private: Made
    workdir: Made
    new: bool
    shell: str
    user: tuple[str, str]
    prctl: str

    @classmethod
    def parse(cls, said: str) -> Prepared:
        """Raises :class:`MachineError` if the host printed something else."""
        fields = said.removesuffix("\n").split("\n", 8)
        if len(fields) != 9 or not PRIVATE.match(fields[0]) or not fields[8].startswith("/"):
            raise MachineError(f"its preparation printed what is not understood: {said[:500]!r}")
        private, private_is, workdir_is, new, shell, uid, name, prctl, workdir = fields
        return cls(Made(private, private_is), Made(workdir, workdir_is), bool(new), shell, (uid, name), prctl)
