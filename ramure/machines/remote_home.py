"""What agents need on a machine that is not this host: a private directory, and a tmux server in it.

Only ``exec`` is used. A machine's actor owns its remote home: made when the first agent needs them, made good when the
tmux server has died or the host has been started anew, removed before the machine is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ramure.machines.asking import ask, told_to_stay
from ramure.machines.errors import MachineError, MachineStopped
from ramure.machines.scripts import IDENTITY, REMOVE_ALL
from ramure.machines.tmux.driver import NoSuchSession, Tmux, TmuxMissing, TmuxServerGone
from ramure.machines.tmux.remote import ExecTmux

if TYPE_CHECKING:
    from ramure.machines.base import Machine

__all__ = ["RemoteHome", "Room"]

T = TypeVar("T")

COMMAND_LIMIT = 30.0
LOOK_EVERY = 1.0
"""Seconds between two looks at the sessions, on machines where no command can wait for their ends."""
CLOSE_LIMIT = 15.0

PREPARE = (
    IDENTITY
    + r"""
umask 077
command -v tmux >/dev/null || exit 127
base=${RAMURE_PRIVATE:-${TMPDIR:-/tmp}}
[ ${#base} -le 60 ] || base=/tmp
dir=$1
if [ -z "$dir" ] || [ -h "$dir" ] || [ ! -O "$dir" ] || [ "$(identity "$dir")" != "$4" ]; then
    dir=$(mktemp -d "$base/ramure-XXXXXXXX") || exit 1
fi
unset RAMURE_PRIVATE OLDPWD SHLVL _ LINES COLUMNS TERM TMUX TMUX_PANE RAMURE_EXEC RAMURE_AGENT_CONFIG
parent=
for each in "$2" python3 python; do
    [ -z "$parent" ] && [ -n "$each" ] && "$each" -I -S -c "$3" 2>/dev/null && parent=$(command -v "$each")
done
[ -n "$parent" ] || { perl -MPOSIX -e 'exit !-e "/proc/self/stat"' 2>/dev/null && parent=$(command -v perl); }
if [ -n "$parent" ] && [ -r "/proc/$$/environ" ]; then
    cat "/proc/$$/environ" >"$dir/environment"
else
    parent=
    export -p | grep -v -E '^(export|declare -[a-z]+) (UID|EUID|PPID|BASHOPTS|SHELLOPTS|BASH_VERSINFO)(=|$)' >"$dir/environment"
fi
chmod 600 "$dir/environment" || exit 1
printf '%s\n' "$dir" "$(identity "$dir")" "$parent" "$PWD"
"""
)
"""Makes the directory ($1, where that is still the one with the identity $4; in one that the machine removes, if it has such), writes down what
commands find in their environment, and says where they start, and which Python ($2, if it has one of its own; $3 tries it)
or perl can be a process tree's parent. The environment is as it was given to this shell, NUL-separated; where nothing reads that,
it is as a shell reads it. A socket's path must be short, so a long TMPDIR is not for it."""

NOT_OF_SSH: Final = 'unset SSH_CLIENT SSH2_CLIENT; exec "$@"'
"""With these, bash reads ~/.bashrc, and prints what that does, for each command of pi's."""

TRY_PYTHON: Final = (
    "import os, ctypes, signal, sys; os.waitstatus_to_exitcode, signal.sigwait; sys.exit(sys.platform != 'linux')"
)


@dataclass(eq=False)
class Room:
    """A private directory on a machine (mode 0700), and the tmux server in it.

    ``environment`` is a file there: the machine's own variables, which so never leave it; NUL-separated where there is an
    ``interpreter`` (Python or perl) for the parents of process trees, else what a shell reads with ``.``. ``workdir`` is
    where commands start.
    """

    directory: str
    identity: str
    """What the directory is, not just where: no other is removed."""
    workdir: str
    tmux: Tmux
    interpreter: str = ""
    _made: dict[str, asyncio.Future[Any]] = field(default_factory=dict)

    @property
    def environment(self) -> str:
        return f"{self.directory}/environment"

    async def once(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make()`` gives, called once for the room, however many ask; a failure is not remembered."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = asyncio.ensure_future(make())
        try:
            result: T = await asyncio.shield(made)
        except BaseException:
            if made.done():
                self._made.pop(name, None)
            raise
        return result


class RemoteHome:
    """The room of a machine, if it has one. See the module."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._room: Room | None = None
        self._closed = False
        self._lock = asyncio.Lock()
        self._trees: dict[str, Tmux] = {}

    @property
    def closed(self) -> bool:
        """True from when the machine begins to be stopped."""
        return self._closed

    def tree_begins(self, mark: str, tmux: Tmux) -> None:
        """The process tree with this mark is about to begin on ``tmux``; what is left of it ends with the machine.

        Raises :class:`MachineStopped`.
        """
        if self._closed:
            raise MachineStopped(self.machine.describe())
        self._trees[mark] = tmux

    def tree_ended(self, mark: str) -> None:
        """Nothing is left of it."""
        self._trees.pop(mark, None)

    async def end_trees(self) -> None:
        """End the process trees that are left. Does not raise."""
        self._closed = True
        trees, self._trees = self._trees, {}
        ending = (tmux.end_orphan(None, mark) for mark, tmux in trees.items())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT):
                await asyncio.gather(*ending, return_exceptions=True)

    async def room(self) -> Room:
        """The room, made or made good if need be; its tmux server runs.

        Raises :class:`~ramure.machines.tmux.driver.TmuxMissing` and other :class:`MachineError`.
        """
        async with self._lock:
            if self._closed:
                raise MachineStopped(self.machine.describe())
            if self._room is None or not await self._runs(self._room):
                self._room = await self._make(self._room)
            return self._room

    async def _runs(self, room: Room) -> bool:
        try:
            await room.tmux.panes()
        except TmuxServerGone:
            return False
        return True

    async def _make(self, before: Room | None) -> Room:
        machine = self.machine
        python = getattr(machine, "python", "")
        was, identity = (before.directory, before.identity) if before is not None else ("", "")
        prepare = ["/bin/sh", "-c", PREPARE, "sh", was, python, TRY_PYTHON, identity]
        result = await ask(machine, ["/bin/sh", "-c", NOT_OF_SSH, "sh", *prepare], limit=COMMAND_LIMIT)
        if result.exit_code == 127:
            raise TmuxMissing(f"there is no tmux on {machine.describe()}; {machine.install_hint()}")
        lines = result.stdout.removesuffix("\n").split("\n", 3)
        if not result.ok or len(lines) != 4:
            said = result.stderr.strip() or f"status {result.exit_code}"
            raise MachineError(f"no private directory could be made on {machine.describe()}: {said}")
        directory, identity, interpreter, workdir = lines
        tmux = ExecTmux(machine, f"{directory}/tmux", poll=None if machine.long_commands else LOOK_EVERY)
        try:
            await tmux.start()
        except BaseException:
            await self._remove(directory, identity)
            raise
        return Room(directory, identity, workdir, tmux, interpreter)

    async def close(self) -> None:
        """End the tmux server with all in it, and remove the directory. Does not raise: a machine that is gone, or
        does not answer in time, has nothing left that could be removed from here."""
        await self.end_trees()
        async with self._lock:
            room, self._room = self._room, None
        if room is None:
            return
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                try:
                    await room.tmux.kill_server()
                except (NoSuchSession, TmuxServerGone):
                    pass  # it has just ended by itself
                await self._remove(room.directory, room.identity)
        except (MachineError, OSError, TimeoutError):
            room.tmux.close()

    def abandon(self) -> None:
        """The machine is gone, and all that was there with it."""
        self._closed = True
        room, self._room = self._room, None
        if room is not None:
            room.tmux.close()

    async def _remove(self, directory: str, identity: str) -> None:
        removal = ["/bin/sh", "-c", REMOVE_ALL, "sh", directory, identity]
        done = await ask(self.machine, removal, limit=COMMAND_LIMIT)
        told_to_stay(self.machine.describe(), done.stdout)
