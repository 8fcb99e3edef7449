"""The reaper: the small process that starts a local machine's commands, and can end each with all it started.

Run as a script (``python -I -S reaper_program.py FD``); it imports nothing of ramure, but ``removal.py`` by its path. FD is a stream socket
that carries lines of JSON, and the file descriptors of the commands' pipes.

Why a process of its own:

* Each command's shell is made a *child subreaper* (prctl(2)) before it starts, so that whatever the command
  starts, also daemons in sessions of their own with an empty environment, stays below it in the process tree
  for as long as it runs. So a timeout can kill all of it. (Setting that from Python's own process would need
  ``preexec_fn``, which is unsafe beside threads.)
* The reaper is a subreaper too: what a command leaves running on purpose (``server &``) stays below the
  reaper, and ends with the machine.
* When the program that owns the reaper dies, by SIGKILL too, the socket closes, and the reaper ends
  everything below it, runs the commands that undo what the machine did elsewhere (a container, a mount),
  removes what it was told to own, and ends.

Requests: ``{"op": "run", "id", "argv", "cwd", "env", "user"}`` with three descriptors (stdin, stdout, stderr);
``{"op": "kill", "id"}``; ``{"op": "own", "path", "identity", "record"}``; ``{"op": "hold", "path"}``;
``{"op": "undo", "argv"}``; ``{"op": "environment", "env"}``;
``{"op": "stop"}``. Replies: ``{"started": id, "pid"}``, ``{"failed": id, "what",
"error"}``, ``{"exit": id, "code"}``, ``{"killed": id, "left": [pid, ...]}``, ``{"stopped": true}``.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
UNDO_LIMIT = 30.0
KILL_LIMIT = 2.0
"""Seconds after which the killing of a tree is given up, and what is left is reported."""

LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None) if LINUX else None


def prctl(option: int, value: int) -> None:
    if _libc is not None:
        _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process that is not a zombie."""
    if not LINUX:
        listing = subprocess.run(["ps", "-Ao", "pid=,ppid=,state="], capture_output=True, text=True, check=True)
        rows = (line.split() for line in listing.stdout.splitlines())
        return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z")]
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    rest = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if rest[0] not in b"ZX":
                found.append((int(name), int(rest[1])))
    return found


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in processes():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), ())
        found += below
        todo += below
    return found


def signal_one(pid: int, number: int) -> bool:
    """False if we may not."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def kill_below(root: int) -> list[int]:
    """Kill every descendant of ``root`` but not itself; the pids that could not be killed."""
    deadline = time.monotonic() + KILL_LIMIT
    empty = 0
    while True:
        pids = [pid for pid in descendants(root) if pid != os.getpid()]
        refused = [pid for pid in pids if not signal_one(pid, signal.SIGKILL)]
        # A listing misses what is started during it by a process that then ends: one that is empty may be wrong.
        empty = 0 if pids else empty + 1
        sure = childless() if root == os.getpid() and LINUX else empty == 2
        if (len(refused) == len(pids) and (pids or sure)) or time.monotonic() > deadline:
            return pids
        time.sleep(0.001)


def childless() -> bool:
    """True if nothing is left below this process, which as a subreaper inherits every orphan below it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return True
    return False


class Reaper:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.running: dict[int, int] = {}  # pid -> id
        self.buffer: bytes = b""
        self.descriptors: list[int] = []
        self.owned: list[dict[str, Any]] = []
        self.locks: list[int] = []
        self.undo: list[list[str]] = []

    def serve(self) -> None:
        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        watched: list[socket.socket | int] = [self.control, wake]
        while True:
            readable, _, _ = select.select(watched, [], [])
            if wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                self.reap()
            if self.control in readable and not self.receive():
                return

    def receive(self) -> bool:
        """Handle what the owner sent. False when it is gone, or said stop."""
        room = socket.CMSG_SPACE(30 * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self.control.recvmsg(1 << 16, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        except ConnectionResetError:
            return False
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
                self.descriptors += received
        if not data:
            return False
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return all(self.handle(json.loads(line)) for line in lines)

    def handle(self, request: dict[str, Any]) -> bool:
        if request["op"] == "stop":
            left = kill_below(os.getpid())
            self.owned.clear()  # the owner removes them itself
            self.undo.clear()
            self.reply(stopped=True, left=left)
            return False
        if request["op"] == "own":
            self.owned.append(request)
            if request["identity"] is not None:
                self.locks += lock(request["path"])
                removal()  # now: what is removed at the end may be in the directory that this program comes from
        elif request["op"] == "hold":
            self.locks += lock(request["path"])
        elif request["op"] == "environment":
            os.environ.update(request["env"])  # on the heap, and so not in /proc/PID/environ
        elif request["op"] == "undo":
            self.undo.append(request["argv"])
        elif request["op"] == "kill":
            self.reply(killed=request["id"], left=self.kill(request["id"]))
        else:
            stdio, self.descriptors = self.descriptors[:3], self.descriptors[3:]
            self.run(request, stdio)
        return True

    def run(self, request: dict[str, Any], stdio: list[int]) -> None:
        ours: list[int] = []
        try:
            ours += os.pipe()
            pid = os.fork()
        except OSError as refused:  # no descriptors or processes left: that is this command's failure alone
            for descriptor in (*ours, *stdio):
                os.close(descriptor)
            self.reply(failed=request["id"], what="start", error=refused.strerror)
            return
        error_read, error_write = ours
        if pid == 0:
            become(request, stdio, error_write)
        os.close(error_write)
        for descriptor in stdio:
            os.close(descriptor)
        with open(error_read, "rb") as errors:
            failure = errors.read()
        if failure:
            os.waitpid(pid, 0)
            what, _, error = failure.decode(errors="replace").partition(":")
            self.reply(failed=request["id"], what=what, error=error)
            return
        self.running[pid] = request["id"]
        self.reply(started=request["id"], pid=pid)

    def kill(self, identity: int) -> list[int]:
        """End a command and all below it. Its shell is stopped first: it must stay to inherit its orphans."""
        pid = next((pid for pid, running in self.running.items() if running == identity), None)
        if pid is None:
            return []
        may = signal_one(pid, signal.SIGSTOP)
        left = kill_below(pid)
        if not may or not signal_one(pid, signal.SIGKILL):
            left.append(pid)
        self.reap()
        return left

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            identity = self.running.pop(pid, None)
            if identity is not None:
                code = os.waitstatus_to_exitcode(status)
                self.reply(exit=identity, code=code if code >= 0 else 128 - code)

    def reply(self, **message: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # the owner is gone: the next receive() says so
            self.control.sendall(json.dumps(message).encode() + b"\n")


def become(request: dict[str, Any], stdio: list[int], errors: int) -> NoReturn:
    """In the child: turn into the command, or write why not and exit."""
    what = "start"
    try:
        os.setsid()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for target, descriptor in enumerate(stdio):
            os.dup2(descriptor, target)
        environment = {**os.environ, **request["env"]}
        what = "cwd"
        os.chdir(request["cwd"])
        environment["PWD"] = request["cwd"]
        what = "user"
        if request["user"] is not None:
            entry = pwd.getpwnam(request["user"])
            os.initgroups(entry.pw_name, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            environment.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name, SHELL=entry.pw_shell)
        what = "start"
        os.execvpe(request["argv"][0], request["argv"], environment)
    except BaseException as error:  # whatever it is, the owner hears of it, and this process ends
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        os.write(errors, f"{what}:{reason}".encode())
    finally:
        os._exit(127)


def removal() -> Any:
    """The module ``removal``, which lies beside this file: neither ramure nor this directory is on the path."""
    if "removal" not in sys.modules:
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        try:
            import removal  # type: ignore[import-not-found] # noqa: F401
        finally:
            del sys.path[0]
    return sys.modules["removal"]


def lock(path: str) -> list[int]:
    """The descriptor of a lock that keeps systemd-tmpfiles from ageing what is in this directory (tmpfiles.d(5))."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    with contextlib.suppress(OSError):  # the program has locked it already, or the file system has no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return [descriptor]


def remove(path: str, identity: dict[str, Any] | None, record: str) -> None:
    """Remove a directory that has this identity, then its record; or, without one, a socket or a link to it. What stays
    is for ``ramure gc``, which tells of it."""
    with contextlib.suppress(OSError):
        if identity is not None:
            removal().remove_tree(path, identity)
            if record:
                os.unlink(record)
        elif stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFSOCK, stat.S_IFLNK):
            os.unlink(path)


def undo(argv: list[str]) -> None:
    """Run one command of those that undo; what it says has no reader any more."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=UNDO_LIMIT, check=False)


def own_libraries_only() -> None:
    """In a sandbox this Python may need a library path that is not the commands'."""
    theirs = os.environ.pop("RAMURE_LD_LIBRARY_PATH", None)
    if theirs is not None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    if theirs:
        os.environ["LD_LIBRARY_PATH"] = theirs


def main() -> None:
    own_libraries_only()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    prctl(PR_SET_DUMPABLE, 0)  # no command may take the control socket from us (ptrace, pidfd_getfd)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    reaper = Reaper(control)
    try:
        reaper.serve()
    finally:
        kill_below(os.getpid())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for argv in reaper.undo:
            undo(argv)
        for owned in reaper.owned:
            remove(owned["path"], owned["identity"], owned["record"])


if __name__ == "__main__":
    main()
