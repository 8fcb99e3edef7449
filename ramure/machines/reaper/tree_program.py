"""The parent of one life of pi: the command of its tmux pane, which keeps and ends all that pi started.

Run as a script (``python -I -S tree_program.py DAEMONS REPORT FIRST ENVIRONMENT COMMAND...``); it imports nothing of ramure but
``reaper_program``, which stands beside it, and that only when something is left to be ended.

The tree: tmux > *guard* > *holder* > the command.

* Guard and holder are *child subreapers* (prctl(2)): whatever the command starts, also daemons in sessions of their own
  with an empty environment, stays below them. When the command has ended, the holder ends what is left and then exits
  with the command's status. ``DAEMONS`` is ``end``, or ``keep``: then only what the command itself had under way is ended,
  and the holder stays, detached from the terminal, for as long as a daemon lives.
* There are two, so that a SIGKILL of either leaves one that ends the tree. If both are killed, the command ends too
  (PR_SET_PDEATHSIG).
* The command runs in a foreground process group of its own. So the terminal's ^C, ^D and SIGWINCH reach it alone, and a
  ^Z stops it as in a shell; the holder then sets it going again, since nobody else would.

``ENVIRONMENT`` and ``FIRST`` (which may be empty, and is read before) are files of NUL-separated ``NAME=value``: they
are the command's whole environment, apart from TERM and PWD, which are the terminal's. ``ENVIRONMENT`` is removed when it has
been read. ``REPORT`` is written before anything is ended: a line ``directory TAB command`` for each process, those whose parents had
ended first.

Signals to the guard: SIGTERM, SIGHUP, SIGINT and SIGQUIT are passed on to the command; SIGUSR1 kills the command, and the
rest follows as at any end of it; SIGUSR2 ends all, daemons to be kept included.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from types import ModuleType

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36

PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
HANDLED: Final = (*PASSED_ON, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU, signal.SIGTTIN)
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at what has become a daemon, where daemons are kept."""
LONGEST_DEATH: Final = 2.0
"""Seconds that a killed process has to be gone."""
REPORTED: Final = 100
"""Lines of the report, at most."""
LONGEST: Final = 2000
"""Bytes of a command line in the report, at most."""


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0)))


NOT_PASSED_ON: Final = (
    *(b"RAMURE_PRIVATE", b"RAMURE_EXEC", b"RAMURE_AGENT_CONFIG", b"RAMURE_TREE", b"TMUX", b"TMUX_PANE"),
    *(b"OLDPWD", b"SHLVL", b"_", b"LINES", b"COLUMNS", b"TERM", b"PWD"),
)
"""What FIRST, the environment of a command, has and pi is not to have."""


def environment(first: str, given: str) -> dict[bytes, bytes]:
    """The command's environment: what the files say, and what is the terminal's."""
    found = entries(first) if first else {}
    for name in NOT_PASSED_ON:
        found.pop(name, None)
    found.update(entries(given))
    for name in (b"TERM", b"PWD"):
        if name in os.environb:
            found.setdefault(name, os.environb[name])
    return found


def entries(path: str) -> dict[bytes, bytes]:
    with open(path, "rb") as file:
        pairs = (entry.partition(b"=") for entry in file.read().split(b"\0"))
        return {name: value for name, assigned, value in pairs if assigned}


def foreground() -> None:
    """Make this process's group the terminal's foreground group, if there is a terminal."""
    take_terminal(os.getpid())


def take_terminal(group: int) -> None:
    try:
        os.tcsetpgrp(0, group)
    except OSError:  # no terminal, or it has hung up
        pass


def terminal_group() -> int:
    """The terminal's foreground group, which the command leads; 0 if there is none."""
    try:
        return os.tcgetpgrp(0)
    except OSError:
        return 0


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def code_of(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def wait_signal(timeout: float | None = None) -> int:
    """The next signal; 0 after ``timeout`` seconds without one."""
    if timeout is None or sys.platform != "linux":
        return signal.sigwait(HANDLED)
    info = signal.sigtimedwait(HANDLED, timeout)
    return 0 if info is None else info.si_signo


def children() -> list[int]:
    """Our children, zombies included."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:  # a kernel without that file, or another system
        return [pid for pid, parent in _reaper().processes() if parent == os.getpid()]


def _reaper() -> ModuleType:
    """The reaper's program, which lists and kills trees; it takes longer to import than all the rest."""
    return importlib.import_module("reaper_program")


def reap() -> list[tuple[int, int]]:
    """(pid, status) of each child that ended or stopped."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


# -- the end of the tree ------------------------------------------------------------------------------------------------


def report(path: str, pids: list[int]) -> None:
    """Write down what is about to be ended."""
    lines = []
    for pid in pids[:REPORTED]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().rstrip(b"\0").split(b"\0")
            where = os.readlink(f"/proc/{pid}/cwd".encode())
        except OSError:
            continue  # it has ended, or there is no /proc
        if words != [b""]:
            command = b" ".join(word if word and not word.strip(PLAIN) else quoted(word) for word in words)
            lines.append(printable(where) + b"\t" + printable(command)[:LONGEST] + b"\n")
    if not lines or not path:
        return
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(lines)
    except OSError:  # the directory is gone, or the disk is full: the tree is ended all the same
        pass


PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"


def quoted(word: bytes) -> bytes:
    return b"'" + word.replace(b"'", b"'\"'\"'") + b"'"


def printable(text: bytes) -> bytes:
    return bytes(32 if byte < 32 or byte == 127 else byte for byte in text)


def trees(roots: list[int]) -> list[int]:
    """These processes, and then what is below them."""
    reaper = _reaper()
    return [*roots, *(pid for root in roots for pid in reaper.descendants(root))]


def end_tree(path: str, command: int = 0) -> None:
    """End all that is below us; the ``command``, if it may live, first, so that what is below it is below us."""
    reap()
    deadline = time.monotonic() + LONGEST_DEATH
    while command > 1 and command in children() and time.monotonic() < deadline:
        send(command, signal.SIGKILL)
        wait_signal(0.005)
        reap()
    if pids := children():
        report(path, trees(pids))
        _reaper().kill_below(os.getpid())


def end_foreground(path: str, daemons: set[int]) -> None:
    """End what is below us, apart from ``daemons``: those that were ours before the command ended, and what a shell that it
    had under way has started in another session, or ignoring SIGHUP (nohup). What is below a daemon is of it."""
    reaper = _reaper()
    doomed: list[int] = []
    for root in [pid for pid in children() if pid not in daemons]:
        here = session(root)
        for pid in (root, *reaper.descendants(root)):
            if pid != root and (session(pid) != here or ignores_hangup(pid)):
                daemons.update((pid, *reaper.descendants(pid)))
            if pid not in daemons:
                doomed.append(pid)
    report(path, doomed)
    deadline = time.monotonic() + reaper.KILL_LIMIT
    while doomed and time.monotonic() < deadline:
        for pid in doomed:  # parents first: a shell must not go on with its next command
            reaper.signal_one(pid, signal.SIGKILL)
        reap()
        wait_signal(0.005)
        roots = [pid for pid in children() if pid not in daemons]
        doomed = [pid for pid in trees(roots) if pid not in daemons]


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended
        return 0


def ignores_hangup(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            mask = next(line.split()[1] for line in file if line.startswith(b"SigIgn:"))
    except (OSError, StopIteration):
        return False
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)


# -- the two of us ------------------------------------------------------------------------------------------------------


def run(command: list[str], variables: dict[bytes, bytes]) -> NoReturn:
    """In the child: become the command."""
    try:
        os.setpgid(0, 0)
        foreground()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(command[0], command, variables)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    finally:
        os._exit(127)


def hold(command: list[str], variables: dict[bytes, bytes], path: str, keep: bool, status: int, guard: int) -> int:
    """The holder: run the command, end what it leaves, and return its status."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != guard:  # killed already
        return 1
    pid = os.fork()
    if pid == 0:
        run(command, variables)
    try:
        os.setpgid(pid, pid)  # the child does so too: whoever comes first
    except OSError:
        pass
    daemons: set[int] = set()
    code = None
    while code is None:
        number = wait_signal(LOOK_EVERY if keep else None)
        keep = keep and number != signal.SIGUSR2
        if number in PASSED_ON:
            send(pid, number)
        elif number in (signal.SIGUSR1, signal.SIGUSR2):
            send(pid, signal.SIGKILL)
        if keep:
            seen = {child for child in children() if child != pid}
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                daemons |= seen  # the command lives, so these are not its own children
        code = look(pid, daemons)
    if keep:
        end_foreground(path, daemons)
        if children():
            detach(code, status, guard)
    end_tree(path)
    return code


def look(pid: int, daemons: set[int]) -> int | None:
    """Reap what has ended; the status of the command ``pid`` if that has. If it has stopped, it is set going again."""
    code = None
    for child, how in reap():
        if child != pid:
            daemons.discard(child)
        elif os.WIFSTOPPED(how):
            take_terminal(pid)
            os.killpg(pid, signal.SIGCONT)
        else:
            code = code_of(how)
    return code


def detach(code: int, status: int, guard: int) -> NoReturn:
    """Report the command's status, let the guard go, and stay while a daemon lives."""
    prctl(PR_SET_PDEATHSIG, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.write(status, bytes([code]))
    os.close(status)
    send(guard, signal.SIGUSR2)
    while True:
        reap()
        if not children():
            os._exit(0)
        if wait_signal() in (signal.SIGTERM, signal.SIGUSR2):
            end_tree("")
            os._exit(0)


def watch(holder: int, path: str, status: int) -> int:
    """The guard: pass signals on, and end what is left if the holder was killed."""
    while True:
        number = wait_signal()
        if number == signal.SIGUSR2 and (said := read(status)):
            return said[0]  # the holder stays
        if number in (*PASSED_ON, signal.SIGUSR1, signal.SIGUSR2):
            send(holder, number)
        for child, how in reap():
            if os.WIFSTOPPED(how):
                send(child, signal.SIGCONT)
            elif child == holder:
                end_tree(path, command=terminal_group())
                return code_of(how)


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1)
    except BlockingIOError:
        return b""


def main() -> None:
    sys.path.append(os.path.dirname(os.path.realpath(__file__)))
    daemons, path, first, given, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    variables = environment(first, given)
    os.unlink(given)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    status, status_write = os.pipe()
    os.set_blocking(status, False)
    guard = os.getpid()
    holder = os.fork()
    if holder == 0:
        os._exit(hold(command, variables, path, daemons == "keep", status_write, guard))
    os.close(status_write)
    variables.clear()
    os._exit(watch(holder, path, status))


if __name__ == "__main__":
    main()
