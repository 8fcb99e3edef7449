"""The tmux driver for this host, through libtmux."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from ramure.executor import in_thread
from ramure.machines.reaper.reaper import finished
from ramure.machines.reaper.removal import Identity, identify
from ramure.machines.tmux.driver import LISTEN, REAPING, Pane, Reply, Tmux, TmuxError, TmuxMissing

if TYPE_CHECKING:
    from ramure.machines.local import LocalMachine

__all__ = ["Call", "LibtmuxServer", "LocalTmux"]

Call = Callable[..., Awaitable[Any]]
"""Runs a blocking function off the event loop: ``await call(function, *args)``."""

SCRIPT_LIMIT = 60.0
"""Seconds that a script of ours may take: the longest ends a tree of processes, with their grace."""


@contextlib.contextmanager
def _some_output() -> Iterator[None]:
    """libtmux reads ``sys.stdout.encoding`` when it is imported; a program whose output is closed has no stdout."""
    if sys.stdout is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = None


class LibtmuxServer:
    """A plain, blocking tmux client; to be used from one thread, away from the event loop.

    A server that does not answer one command within ``timeout`` seconds (it is stopped, or hangs) is killed: then the
    command fails as with any dead server, and whoever has sessions there is told.
    """

    def __init__(self, socket: str, timeout: float) -> None:
        with _some_output():
            import libtmux

        self.server_pid: int | None = None
        self._timeout = timeout
        self._server = libtmux.Server(socket_path=socket, config_file=os.devnull)

    def tmux(self, *args: str) -> Reply:
        """Run one tmux command (2 to 5 ms)."""
        import libtmux.exc

        hung = threading.Timer(self._timeout, self._kill_server)
        hung.daemon = True
        hung.start()
        try:
            done = self._server.cmd(*args)
        except libtmux.exc.TmuxCommandNotFound as error:
            raise TmuxMissing("tmux is not installed here") from error
        finally:
            hung.cancel()
        code = done.returncode
        return Reply(1 if code is None else code, "\n".join(done.stdout), "\n".join(done.stderr))

    def _kill_server(self) -> None:
        if self.server_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                # A server that a command waits for has not ended, so the number is still its own.
                os.kill(self.server_pid, signal.SIGKILL)

    def shell(self, script: str, *args: str) -> Reply:
        """Run a shell script on this host."""
        done = subprocess.run(
            ["/bin/sh", "-c", script, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return Reply(done.returncode, done.stdout, done.stderr)


class LocalTmux(Tmux):
    """A tmux server on this host.

    ``call`` carries the blocking calls (by default ``in_thread``; in a run, the server's threaded
    actor). Without ``socket`` it gets one in a new temporary directory of mode 0700. With ``machine`` the
    server is started below that machine's reaper: it ends with the machine, and with this program, even if
    that is killed with SIGKILL. A server that does not answer within ``timeout`` seconds is killed.
    """

    def __init__(
        self,
        socket: str | None = None,
        call: Call | None = None,
        *,
        machine: LocalMachine | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._own: tuple[str, Identity | None] | None = None
        if socket is None:
            directory = tempfile.mkdtemp(prefix="ramure-tmux-")
            self._own = directory, identify(directory)
            socket = f"{directory}/tmux"
        super().__init__(socket)
        self._machine = machine
        self._call: Call = call or in_thread
        self._blocking = LibtmuxServer(socket, timeout)
        self._followed: dict[int, int] = {}  # a pane's process -> its pidfd
        self._reaping: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        if self._machine is not None:
            self._machine.reaper.own(*(self._own or (self.socket,)))
        version = await super().start()
        self._blocking.server_pid = int(await self._command("display-message", "-p", "#{pid}"))
        return version

    async def _tmux(self, *args: str) -> Reply:
        reply: Reply = await self._call(self._blocking.tmux, *args)
        return reply

    async def _shell(self, script: str, *args: str) -> Reply:
        if self._machine is not None:
            result = await self._machine.exec(shlex.join(["/bin/sh", "-c", script, *args]), timeout=SCRIPT_LIMIT)
            return Reply(result.exit_code, result.stdout, result.stderr)
        # Not through `call`: ending a process tree takes seconds, and must not hold up what a serial actor does.
        return await in_thread(self._blocking.shell, script, *args)

    async def _listen(self) -> Reply:
        """One tmux client waits for as long as it takes; its output's end, seen by the loop, is its exit."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        starting = asyncio.ensure_future(in_thread(_start_listening, self.socket))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # the thread cannot be stopped: end what it starts
            await finished(_discarded(starting))
            raise
        output = process.stdout
        assert output is not None
        loop.add_reader(output, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(output)
            said = await finished(in_thread(_reap, process))
        return Reply(process.returncode, "", said)

    def _follow(self, pane: Pane) -> None:
        if pane.pid in self._followed or not hasattr(os, "pidfd_open"):
            return
        try:
            descriptor = os.pidfd_open(pane.pid)
        except ProcessLookupError:  # ended meanwhile, and reaped: so the server knows
            return
        self._followed[pane.pid] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._process_ended, pane.pid)

    def _process_ended(self, pid: int) -> None:
        self._unfollow(pid)
        task = asyncio.get_running_loop().create_task(self._let_reap(pid))
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _let_reap(self, pid: int) -> None:
        """A pane's process has ended: make sure that the server knows it."""
        with contextlib.suppress(TmuxError):  # the server went too, which the watch tells
            for pause in REAPING:
                await self._reap()
                await asyncio.sleep(pause)
                if all(pane.dead or pane.pid != pid for pane in await self.panes()):
                    return

    def _unfollow(self, pid: int) -> None:
        descriptor = self._followed.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    async def kill_server(self, *, grace: float = 0.0) -> None:
        for pid in list(self._followed):
            self._unfollow(pid)
        await super().kill_server(grace=grace)
        if self._reaping:
            await asyncio.wait(self._reaping)


def _start_listening(socket: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [shutil.which("tmux") or "tmux", "-S", socket, *LISTEN],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.defpath, "LC_CTYPE": "C.UTF-8"},  # it lives long, and has no use for anybody's keys
        start_new_session=True,
    )


async def _discarded(starting: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    with contextlib.suppress(OSError):
        await in_thread(_reap, await starting)


def _reap(process: subprocess.Popen[bytes]) -> str:
    process.terminate()
    output, _ = process.communicate()
    return output.decode(errors="replace")
