"""tmux, as ramure uses it: one driver interface, whatever the way to the server.

Each user of this (a run on this host, an agent on a remote machine) has a server of its own, on its own socket
in a directory of mode 0700, with no configuration file and a clean environment. No secret passes through it:
:func:`wrapped` makes a pane's command read its environment from a file of mode 0600.

Sessions are addressed by exact name. tmux itself matches prefixes, and rewrites ``.`` and ``:`` in names;
here names are encoded so that no two names meet.

:class:`Tmux` is the interface with all its logic; the drivers say only how a tmux command is run:
:class:`ramure.machines.tmux.local.LocalTmux` through libtmux, on this host, and
:class:`ramure.machines.tmux.remote.ExecTmux` through a machine's ``exec``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ramure.machines.errors import MachineDown, MachineError
from ramure.machines.reaper.process_tree import END_MARKED, END_TREE, REPORT, Daemons, EndedTree, read_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Ending",
    "NoSuchSession",
    "Pane",
    "Reply",
    "SessionExists",
    "Tmux",
    "TmuxError",
    "TmuxMissing",
    "TmuxServerGone",
    "env_file",
    "wrapped",
]

OLDEST = (3, 0)
HISTORY = 10_000
CHANNEL = "ramure-ended"
"""The wait-for channel that the server signals when a session or its command ends."""

ENDED: Final = "@ramure-ended"
"""The server's option that is 1 from such an end on, until somebody has heard of it. The channel alone would lose
ends: of two signals that nobody waits for, the second takes the first one back (tmux 3.3a)."""

LISTEN: Final = (
    *("if-shell", "-F", f"#{{{ENDED}}}"),
    f"set-option -s {ENDED} 0",
    f"wait-for {CHANNEL} ; set-option -s {ENDED} 0",
)
"""The tmux command that ends when something has ended since the last one. The server runs nothing between its parts."""


RESERVED: Final = frozenset({"UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO"})
"""Variables that bash does not let anybody change."""


class TmuxError(MachineError):
    """A tmux command failed."""


class TmuxMissing(TmuxError):
    """There is no tmux, or it is too old."""


class TmuxServerGone(TmuxError):
    """The tmux server does not run (any more)."""


class NoSuchSession(TmuxError):
    """The server has no session of this name."""


class SessionExists(TmuxError):
    """The server has a session of this name already."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tmux client gave back."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Pane:
    """A session's one pane. ``exit_code`` is None while its command runs (128 + n after signal n)."""

    session: str
    session_id: str
    pane_id: str
    pid: int
    exit_code: int | None
    width: int
    height: int

    @property
    def dead(self) -> bool:
        """True when its command has ended."""
        return self.exit_code is not None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended: its command exited, somebody closed the session, or the whole server went.

    ``screen`` is the last screen, without trailing blank lines; it is known only after ``"exited"``. What a command
    says in its last few microseconds may be missing on a busy host: tmux (before 3.7) closes an ended command's terminal
    without another look, and Linux hands over a terminal's output a moment after it was written.
    """

    session: str
    how: Literal["exited", "closed", "server_gone"]
    exit_code: int | None = None
    screen: str = ""

    def __str__(self) -> str:
        if self.how == "exited":
            code = self.exit_code or 0
            return f"its command was killed by signal {code - 128}" if code > 128 else f"its command exited with {code}"
        return "its tmux session was closed" if self.how == "closed" else "its tmux server died"


def env_file(environment: Mapping[str, str], first: str | None = None) -> bytes:
    """The content of a file that :func:`wrapped` reads; write it with mode 0600. ``first`` is a file of the same kind
    that is read before."""
    for name in environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} cannot be the name of an environment variable in a shell")
    lines = (_exported(name, value) for name, value in environment.items())
    before = f". {shlex.quote(first)}\n" if first is not None else ""
    return (before + "".join(lines)).encode("utf-8", "surrogateescape")


def _exported(name: str, value: str) -> str:
    line = f"export {name}={shlex.quote(value)}"
    # bash, as /bin/sh, has values of its own for these, and ends where one is to be changed.
    return f'[ -n "${{BASH_VERSION-}}" ] || {line}\n' if name in RESERVED else f"{line}\n"


def wrapped(argv: Sequence[str], env_path: str | None = None) -> list[str]:
    """The command that becomes ``argv`` after it has read its environment from ``env_path``, which it removes."""
    if env_path is None:
        return list(argv)
    return ["/bin/sh", "-c", 'unset TMUX TMUX_PANE; . "$0"; rm -f -- "$0"; exec "$@"', env_path, *argv]


class Tmux(ABC):
    """A tmux server of one's own. ``start()`` first; ``kill_server()`` at the end."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._waiters: dict[str, asyncio.Future[Ending]] = {}
        self._watcher: asyncio.Task[None] | None = None

    # What a driver says.

    @abstractmethod
    async def _tmux(self, *args: str) -> Reply:
        """Run a tmux client on our socket."""

    @abstractmethod
    async def _shell(self, script: str, *args: str) -> Reply:
        """Run a shell script, with arguments, where the server is."""

    @abstractmethod
    async def _listen(self) -> Reply:
        """Run the tmux command ``LISTEN``, which may take as long as it likes; cancelling ends the client.

        Sees to it that the server learns of ended commands (see :meth:`_reap`), unless :meth:`_follow` does.
        """

    def _follow(self, pane: Pane) -> None:  # noqa: B027 - nothing is right where _listen does it all
        """Called for each live pane whose end is waited for, whenever the sessions are looked at."""

    # What users of it call.

    async def start(self) -> str:
        """Start the server; returns tmux's version. Raises :class:`TmuxMissing` or :class:`TmuxError`."""
        reply = await self._shell(START, self.socket, str(HISTORY), f"set-option -s {ENDED} 1 ; wait-for -S {CHANNEL}")
        if reply.code == 127:
            raise TmuxMissing("tmux is not installed here; install it with the system's package manager")
        if reply.code != 0:
            raise TmuxError(f"the tmux server did not start: {reply.err.strip() or reply.out.strip()}")
        version = reply.out.strip()
        numbers = re.search(r"(\d+)\.(\d+)", version)
        if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
            await self.kill_server()
            raise TmuxMissing(f"tmux here is {version}; ramure needs {OLDEST[0]}.{OLDEST[1]} or newer")
        return version

    async def new_session(
        self, name: str, argv: Sequence[str], *, cwd: str, width: int = 120, height: int = 40
    ) -> Pane:
        """Start a session with one pane that runs ``argv`` (no shell between).

        Anybody on the host can read ``argv``: see :func:`wrapped`. Raises :class:`SessionExists`.
        """
        size = ("-x", str(width), "-y", str(height))
        where = ("-s", encode(name), "-c", cwd.replace("#", "##"))
        fields = await self._command("new-session", "-d", "-P", "-F", FORMAT, *size, *where, "--", *argv)
        return _pane(fields.strip())

    async def has_session(self, name: str) -> bool:
        """True if there is such a session, though its command may have ended."""
        try:
            await self._command("has-session", "-t", target(name))
        except NoSuchSession:
            return False
        return True

    async def panes(self) -> list[Pane]:
        """Every session's pane."""
        try:
            return await self._list("-a")
        except NoSuchSession:  # "no current target": there is no session at all
            return []

    async def pane(self, name: str) -> Pane:
        """The session's pane. Raises :class:`NoSuchSession`."""
        return (await self._list("-t", target(name)))[0]

    async def _list(self, *which: str) -> list[Pane]:
        lines = (await self._command("list-panes", *which, "-F", FORMAT)).splitlines()
        for pause in REAPING:
            if not any(UNREAPED in line for line in lines):
                break
            await self._reap()
            await asyncio.sleep(pause)
            lines = (await self._command("list-panes", *which, "-F", FORMAT)).splitlines()
        return [_pane(line) for line in lines]

    async def _reap(self) -> None:
        """Make the server look for ended children, soon: it may have to be said again.

        tmux with libutempter (Debian's 3.3a) takes its SIGCHLD handler away for the 3 ms after a pane's output
        ended, which is when the signal for that pane's command comes: then the pane is "dead" without a status,
        and the server does not know it, until another child ends. This starts one. Nobody waits for that: its signal
        may be lost in the same way, when another pane's output ends just then, and its client would wait for ever.
        """
        await self._command("run-shell", "-b", "true")

    async def capture(self, name: str, *, history: int = 0) -> str:
        """The screen as text, with up to ``history`` lines before it, without trailing blank lines."""
        return (await self._command("capture-pane", "-p", "-J", "-t", target(name), "-S", str(-history))).rstrip()

    async def clients(self, name: str) -> int:
        """How many terminals show the session now. Raises :class:`NoSuchSession`."""
        return len((await self._command("list-clients", "-t", target(name), "-F", "#{client_name}")).split())

    async def resize(self, name: str, width: int, height: int) -> None:
        """Give the session's window a size, in characters."""
        await self._command("resize-window", "-t", target(name), "-x", str(width), "-y", str(height))

    async def kill_session(self, name: str, *, grace: float = 2.0) -> None:
        """End a session: SIGTERM to its command, SIGKILL after ``grace`` seconds to it and to all that it
        started and that is left. Raises :class:`NoSuchSession`."""
        pane = await self.pane(name)
        if not pane.dead:
            await self._shell(END_TREE, str(pane.pid), str(round(grace / 0.05)))
        with contextlib.suppress(NoSuchSession):
            await self._command("kill-session", "-t", pane.session_id)

    async def end_orphan(
        self, pid: int | None, mark: str, *, grace: float = 2.0, daemons: Daemons = "end"
    ) -> list[EndedTree]:
        """End a process tree whose session or server is gone, as :meth:`kill_session` does: the process ``pid``, if ``mark``
        is in its environment (its number may be another process's by now), and what else bears the mark; what that was.
        (Without /proc nothing is done.)"""
        reply = await self._shell(END_MARKED, mark, str(round(grace / 0.05)), str(pid or ""), daemons)
        return read_report(reply.out)

    async def ended_tree(self, mark: str, report: str, *, within: float) -> list[EndedTree]:
        """What was ended with the tree ``mark``, as its parent has written into the file ``report``; waits for its end, at
        most ``within`` seconds. The file is removed."""
        return read_report((await self._shell(REPORT, mark, str(round(within / 0.05)), report)).out)

    async def kill_server(self, *, grace: float = 0.0) -> None:
        """End every session, then the server. Harmless when it is gone."""
        with contextlib.suppress(TmuxServerGone, NoSuchSession):
            await asyncio.gather(*(self.kill_session(pane.session, grace=grace) for pane in await self.panes()))
        with contextlib.suppress(TmuxServerGone):
            await self._command("kill-server")
        if self._watcher is not None:
            self.close()
            await asyncio.wait([self._watcher])
        await self._shell('rm -f -- "$0"; rmdir -- "$(dirname -- "$0")" 2>/dev/null; :', self.socket)

    def close(self) -> None:
        """Watch the server no longer: for when there is no way to it any more, and nothing of it can be ended."""
        if self._watcher is not None:
            self._watcher.cancel()

    def attach_command(self, name: str) -> list[str]:
        """The command that shows the session in a terminal, on the machine where the server is."""
        return ["tmux", "-u", "-S", self.socket, "attach-session", "-t", target(name)]

    async def wait_end(self, name: str) -> Ending:
        """Return when the session's command ends, the session is closed or the server dies, with which it was.

        Costs no polling: the server says when something ended. Raises :class:`MachineDown` if the way to the
        server is lost.
        """
        waiter = self._waiters.get(name)
        if waiter is None:
            waiter = self._waiters[name] = asyncio.get_running_loop().create_future()
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch(), name=f"watch of tmux {self.socket}")
            else:
                await self._check_ends()
        return await asyncio.shield(waiter)

    async def _watch(self) -> None:
        try:
            while self._waiters:
                await self._check_ends()
                if self._waiters and (await self._listen()).code != 0:
                    await asyncio.sleep(0.05)  # the server died, or the client was killed: the next look tells
        except MachineError as error:
            self._fail_waiters(error)
        except asyncio.CancelledError:
            self._fail_waiters(MachineDown(f"tmux on {self.socket}", "its driver was closed"))
            raise

    def _fail_waiters(self, error: MachineError) -> None:
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # its caller may have left
        self._waiters.clear()

    async def _check_ends(self) -> None:
        waited = list(self._waiters)
        try:
            panes = {pane.session: pane for pane in await self.panes()}
        except TmuxServerGone:
            for name in waited:
                self._end(Ending(name, "server_gone"))
            return
        for name in waited:
            pane = panes.get(name)
            if pane is None:
                self._end(Ending(name, "closed"))
            elif pane.dead:
                try:
                    screen = await self.capture(name)
                except (NoSuchSession, TmuxServerGone):  # closed right after its end
                    screen = ""
                self._end(Ending(name, "exited", pane.exit_code, screen))
            else:
                self._follow(pane)

    def _end(self, ending: Ending) -> None:
        waiter = self._waiters.pop(ending.session, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(ending)

    async def _command(self, *args: str) -> str:
        # An argument that ends in ";" would end the command there.
        reply = await self._tmux(*(arg[:-1] + "\\;" if arg.endswith(";") else arg for arg in args))
        if reply.code == 0:
            return reply.out
        why = reply.err.strip() or reply.out.strip()
        raise next((kind for text, kind in ERRORS if text in why), TmuxError)(f"tmux {args[0]}: {why}")


ERRORS: list[tuple[str, type[TmuxError]]] = [
    ("no server running", TmuxServerGone),
    ("error connecting", TmuxServerGone),
    ("server exited", TmuxServerGone),
    ("lost server", TmuxServerGone),
    ("can't find", NoSuchSession),
    ("no current target", NoSuchSession),
    ("no current session", NoSuchSession),
    ("duplicate session", SessionExists),
]
"""What tmux says, and what it means; the first that is found counts."""

FORMAT = "|".join(
    f"#{{{field}}}"
    for field in (
        "session_name",
        "session_id",
        "pane_id",
        "pane_pid",
        "pane_dead",
        "pane_dead_status",
        "pane_dead_signal",
        "pane_width",
        "pane_height",
    )
)
REAPING: Final = (0.0, 0.005, 0.02, 0.05, 0.1, 0.3, 0.5)
"""Seconds before each look for the status of a command whose output has ended: on a busy host it ends a little later."""

UNREAPED = "|1|||"
"""In a line of that form: dead, with neither status nor signal."""

START = r"""
command -v tmux >/dev/null || exit 127
umask 077
mkdir -p -- "$(dirname -- "$0")" && cd / || exit 1
tmux=$(command -v tmux)
exec env -i PATH="$PATH" ${HOME+"HOME=$HOME"} ${TZ+"TZ=$TZ"} USER="${USER:-$(id -un)}" LOGNAME="${USER:-$(id -un)}" SHELL=/bin/sh \
    TERM=xterm-256color LC_CTYPE=C.UTF-8 TMPDIR="${TMPDIR:-/tmp}" \
    ${RAMURE_MACHINE:+"RAMURE_MACHINE=$RAMURE_MACHINE"} ${RAMURE_RUN_ID:+"RAMURE_RUN_ID=$RAMURE_RUN_ID"} "$tmux" -u -S "$0" -f /dev/null \
    start-server \; set -s exit-empty off \; set -g exit-unattached off \; set -g remain-on-exit on \; \
    set -gq remain-on-exit-format '' \; set -g history-limit "$1" \; set -g update-environment '' \; \
    set -g default-terminal screen-256color \; set -sq extended-keys on \; set -s escape-time 20 \; \
    set-hook -g pane-died "$2" \; set-hook -g session-closed "$2" \; \
    display-message -p '#{version}'
"""
"""Starts a server: $0 is its socket, $1 the length of the history, $2 its command when something has ended. Of the
environment it keeps what a shell needs (what is unset stays unset), and the marks of the machine and the run, by which
both end what is theirs."""

_ESCAPES = {"_": "__", ".": "_d", ":": "_c", "~": "_t"}
_PLAIN = {escaped: char for char, escaped in _ESCAPES.items()}


def encode(name: str) -> str:
    """The name that tmux gets: letters, digits and ``-`` as they are, all else as ``_`` and a letter or a number."""
    if not name:
        raise ValueError("a session's name must not be empty")
    return "".join(
        char if char.isascii() and (char.isalnum() or char == "-") else _ESCAPES.get(char, f"_x{ord(char):x}_")
        for char in name
    )


def decode(encoded: str) -> str:
    """The name behind :func:`encode`'s."""
    return re.sub(r"_x([0-9a-f]+)_|_.", lambda m: chr(int(m[1], 16)) if m[1] else _PLAIN.get(m[0], m[0]), encoded)


def target(name: str) -> str:
    """How a command names exactly this session (``=`` switches prefix matching off)."""
    return f"={encode(name)}:"


def _pane(line: str) -> Pane:
    session, session_id, pane_id, pid, dead, status, signal, width, height = line.split("|")
    code = None
    if dead == "1":
        code = 128 + int(signal) if signal else int(status or 0)
    return Pane(decode(session), session_id, pane_id, int(pid), code, int(width), int(height))
