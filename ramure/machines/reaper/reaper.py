"""The owner's side of the reaper process (see ``reaper_program``): start commands, read their output, end them."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ramure.descriptors import usual_limit
from ramure.executor import in_lasting_thread, in_thread
from ramure.forks import keep_from_forks
from ramure.machines.errors import MachineDown, MachineError, MachineStopped, UserRefused
from ramure.machines.reaper.removal import Identity
from ramure.masking import secret_variables

__all__ = ["KeptCommand", "Reaper", "Sink", "Source", "finished", "live_reapers"]

T = TypeVar("T")
Source = Literal["stdout", "stderr"]
Sink = Callable[[Source, bytes], None]
"""What is called, on the event loop, with each piece of a command's output."""

PROGRAM = Path(__file__).with_name("reaper_program.py")
REMOVAL = Path(__file__).with_name("removal.py")
"""What the program needs beside it."""

READ_SIZE = 1 << 18
PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031

DRAIN_QUIET = 0.1
"""Seconds without output, after a command ended, until it is taken as complete, though a process that
the command left running (``server &``) still holds its output open."""
DRAIN_LIMIT = 2.0
STOP_LIMIT = 5.0
ROOM_LIMIT = 30.0
"""Seconds that a command waits for free descriptors, before it is refused."""
ROOM_EVERY = 0.05
NO_ROOM = (errno.EMFILE, errno.ENFILE)

_live: weakref.WeakSet[Reaper] = weakref.WeakSet()


def live_reapers() -> set[int]:
    """The process ids of this program's reapers that run."""
    return {reaper.pid for reaper in list(_live) if not reaper.down.done()}


class KeptCommand:
    """One running command. Made by :meth:`Reaper.run`."""

    def __init__(self, reaper: Reaper, identity: int, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        self._reaper = reaper
        self.identity = identity
        self.started: asyncio.Future[int] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.pipes: list[_Pipe] = []
        self._sink = sink
        self._flows = False

    def open_pipes(self) -> list[int]:
        """Make the output pipes; the write ends, to be given to the command and then closed. Raises OSError, and then none
        is open."""
        writers: list[int] = []
        sources: tuple[Source, Source] = ("stdout", "stderr")
        try:
            for source in sources:
                reader, writer = os.pipe()
                writers.append(writer)
                try:
                    self.pipes.append(_Pipe(reader, source, self._sink))
                except BaseException:
                    os.close(reader)
                    raise
        except BaseException:
            _close(writers)
            self.close()
            self.pipes.clear()
            raise
        return writers

    @property
    def ended(self) -> bool:
        """Whether it has ended; there may be output of it to be read."""
        return self.exited.done()

    async def wait(self) -> int:
        """Its exit status (128 + n after signal n), when it has ended and its output has been read."""
        code = await asyncio.shield(self.exited)
        ends = [pipe.ended for pipe in self.pipes]
        loop = asyncio.get_running_loop()
        limit = loop.time() + DRAIN_LIMIT
        while not all(end.done() for end in ends) and loop.time() < limit:
            seen = sum(pipe.received for pipe in self.pipes)
            done, _ = await asyncio.wait(ends, timeout=DRAIN_QUIET, return_when=asyncio.ALL_COMPLETED)
            if any(pipe.paused for pipe in self.pipes):  # a slow reader, not a silent command
                limit = loop.time() + DRAIN_LIMIT
            elif len(done) < len(ends) and seen == sum(pipe.received for pipe in self.pipes):
                break
        self.close()
        return code

    async def kill(self) -> tuple[int, ...]:
        """End it with everything it started; the pids that could not be killed. Returns when they are gone."""
        if not self.exited.done():
            left = await asyncio.shield(self._reaper.kill(self.identity))
            if left:
                return left
            await asyncio.wait([self.exited])
        self.flow()
        return ()

    def flow(self) -> None:
        """Read what is left in the pipes, and be held up by no :meth:`pause` any more: of a command that was killed
        that is little, and whoever paused it may be gone."""
        self._flows = True
        self.resume()

    def pause(self) -> None:
        """Read no further output for now; the command will be held up when the pipe is full."""
        if self._flows:
            return
        for pipe in self.pipes:
            pipe.pause()

    def resume(self) -> None:
        for pipe in self.pipes:
            pipe.resume()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()


class _Pipe:
    """The reading end of one output pipe, read by the event loop."""

    def __init__(self, descriptor: int, source: Source, sink: Sink) -> None:
        self._descriptor = descriptor
        self._source = source
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._open = True
        self.received = 0
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        if sys.platform == "linux":
            with contextlib.suppress(PermissionError):  # over the user's pipe budget: the normal size serves too
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, PIPE_SIZE)
        self.resume()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except BlockingIOError:
            return
        if data:
            self.received += len(data)
            self._sink(self._source, data)
        else:
            self.close()

    @property
    def paused(self) -> bool:
        return self._open and not self._reading

    def pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
            self._reading = False

    def resume(self) -> None:
        if self._open and not self._reading:
            self._loop.add_reader(self._descriptor, self._read)
            self._reading = True

    def close(self) -> None:
        if self._open:
            self.pause()
            self._open = False
            os.close(self._descriptor)
            if not self.ended.done():
                self.ended.set_result(None)


class Reaper:
    """A running reaper process. Use :meth:`start`; one event loop; ends with :meth:`stop`."""

    def __init__(self, label: str, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._label = label
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._next = 1
        self._commands: dict[int, KeptCommand] = {}
        self._kills: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._buffer = b""
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()
        self._stopping = False
        self.down: asyncio.Future[str] = self._loop.create_future()
        """Done, with what was seen, when the reaper is gone."""
        _live.add(self)
        control.setblocking(False)
        self._loop.add_reader(control, self._receive)

    @classmethod
    async def start(
        cls,
        label: str,
        *,
        env: Mapping[str, str],
        prefix: Sequence[str] = (),
        python: str | None = None,
        program: str | None = None,
    ) -> Reaper:
        """Start a reaper with this environment. ``prefix`` is put before its command line (a sandbox, say).

        What looks secret in the environment reaches it through its socket: what a process is started with stands in
        ``/proc/PID/environ`` for its whole life.
        """
        secret = secret_variables(env)
        shown = {name: value for name, value in env.items() if name not in secret}
        ours, theirs = (keep_from_forks(end, lambda end: [end]) for end in socket.socketpair())
        argv = [*prefix, python or sys.executable, "-I", "-S", program or str(PROGRAM), str(theirs.fileno())]
        launching = asyncio.ensure_future(in_lasting_thread(_launch, argv, shown, theirs))
        try:
            process = await asyncio.shield(launching)
        except BaseException as error:
            ours.close()
            if isinstance(error, asyncio.CancelledError):  # the thread cannot be stopped: see what it starts to its end
                await finished(_discarded(launching))
            raise
        finally:
            theirs.close()
        reaper = cls(label, process, ours)
        if secret:
            reaper.send({"op": "environment", "env": {name: env[name] for name in secret}})
        return reaper

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        sink: Sink,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: int | None = None,
    ) -> KeptCommand:
        """Start a command; returns when it has been started.

        ``stdin`` is a descriptor (it stays the caller's), else it has none. Raises :class:`UserRefused`,
        :class:`MachineDown`, or :class:`MachineError` with the reason.
        """
        command = KeptCommand(self, self._next, sink)
        self._next += 1
        descriptors = await self._descriptors(command, stdin)
        self._commands[command.identity] = command
        request = {"op": "run", "id": command.identity, "argv": list(argv), "cwd": cwd, "env": dict(env or {})}
        self.send({**request, "user": user}, descriptors)
        try:
            await asyncio.shield(command.started)
        except asyncio.CancelledError:
            if not command.started.done() or command.started.exception() is None:
                self._loop.create_task(self._abandon(command))
            raise
        except MachineError:
            command.close()
            raise
        return command

    async def _descriptors(self, command: KeptCommand, stdin: int | None) -> list[int]:
        """What a command is given: its input and the ends of its pipes. Where there is no room for them, it waits until
        another command has ended."""
        deadline = self._loop.time() + ROOM_LIMIT
        while True:
            try:
                return _open_all(command, stdin)
            except OSError as error:
                if error.errno not in NO_ROOM or self._loop.time() >= deadline or self.down.done():
                    what = f"{self._label} could not start the command: {error.strerror}"
                    remedy = f" for {ROOM_LIMIT:g} s; raise the limit (ulimit -n)" if error.errno in NO_ROOM else ""
                    raise MachineError(what + remedy) from error
            await asyncio.sleep(ROOM_EVERY)

    def kill(self, identity: int) -> asyncio.Future[tuple[int, ...]]:
        """Ask for a command's end; done, with the pids that could not be killed, when it is over."""
        if identity not in self._kills:
            self._kills[identity] = self._loop.create_future()
            self.send({"op": "kill", "id": identity})
        return self._kills[identity]

    async def _abandon(self, command: KeptCommand) -> None:
        """End a command whose caller left before it had started."""
        with contextlib.suppress(MachineError):
            await command.started
            await command.kill()
        command.close()

    def own(self, path: str, identity: Identity | None = None, record: str = "") -> None:
        """Have the reaper remove this directory, if this program dies without stopping it: the one that has
        ``identity``, and then the file ``record``. Until then no cleaner of temporary files ages it. Without
        ``identity``: a socket, or a link to one."""
        self.send({"op": "own", "path": path, "identity": identity, "record": record})

    def hold(self, path: str) -> None:
        """Have the reaper keep cleaners of temporary files from ageing what is in this directory."""
        self.send({"op": "hold", "path": path})

    def undo(self, argv: Sequence[str]) -> None:
        """Have the reaper run this command, once all below it has ended, if this program dies without stopping it.
        Commands run in the order in which they were said, before what is owned is removed."""
        self.send({"op": "undo", "argv": list(argv)})

    async def stop(self) -> None:
        """End everything below the reaper, and itself. Harmless when repeated."""
        if not self._stopping:
            self._stopping = True
            self.send({"op": "stop"})
        await asyncio.wait([self.down], timeout=STOP_LIMIT)
        if not self.down.done():
            self._process.kill()
            await self.down

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Queue a request. The descriptors are closed when they have been passed on."""
        self._outgoing.append((json.dumps(message).encode() + b"\n", list(descriptors)))
        if self.down.done():
            self._drop("the reaper process is gone")
        else:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._control.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                return  # it is gone, which _receive reports
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                self._loop.call_later(ROOM_EVERY, self._flush)  # too many descriptors are on their way to it
                return
            _close(descriptors)
            if sent == len(data):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = (data[sent:], [])
        self._loop.remove_writer(self._control)

    def _receive(self) -> None:
        try:
            data = self._control.recv(READ_SIZE)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
            self._loop.remove_writer(self._control)
            self._loop.create_task(self._bury())
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, reply: dict[str, Any]) -> None:
        if "exit" in reply:
            _settle(self._commands.pop(reply["exit"]).exited, reply["code"])
        elif "started" in reply:
            _settle(self._commands[reply["started"]].started, reply["pid"])
        elif "failed" in reply:
            command = self._commands.pop(reply["failed"])
            _fail(command.started, self._refusal(reply["what"], reply["error"]))
        elif "killed" in reply:
            _settle(self._kills.pop(reply["killed"]), tuple(reply["left"]))

    def _refusal(self, what: str, error: str) -> MachineError:
        if what == "user":
            return UserRefused("?", self._label, error)
        if what == "cwd":
            return MachineDown(self._label, f"its working directory cannot be entered: {error}")
        return MachineError(f"{self._label} could not start the command: {error}")

    async def _bury(self) -> None:
        """The socket closed: reap the process, and tell everybody who waits."""
        status, errors = await in_thread(_reap, self._process)
        why = "it was stopped" if self._stopping else f"its reaper process ended with status {status}"
        if errors.strip() and not self._stopping:
            why += f": {errors.strip().splitlines()[-1]}"
        self._control.close()
        self._drop(why)
        _settle(self.down, why)

    def _drop(self, why: str) -> None:
        for _, descriptors in self._outgoing:
            _close(descriptors)
        self._outgoing.clear()
        error = MachineStopped(self._label) if self._stopping else MachineDown(self._label, why)
        for command in self._commands.values():
            _fail(command.started, error)
            _fail(command.exited, error)
            command.close()
        for killed in self._kills.values():
            _fail(killed, error)
        self._commands.clear()
        self._kills.clear()


def _open_all(command: KeptCommand, stdin: int | None) -> list[int]:
    """Raises OSError, and then none is open."""
    null = os.open(os.devnull, os.O_RDONLY) if stdin is None else os.dup(stdin)
    try:
        return [null, *command.open_pipes()]
    except BaseException:
        os.close(null)
        raise


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # mark as seen: not everybody waits for each of a command's futures


async def _discarded(launching: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    process = await launching
    process.kill()
    await in_thread(process.communicate)


def _launch(argv: list[str], env: dict[str, str], control: socket.socket) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        argv,
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[control.fileno()],
        start_new_session=True,
    )
    usual_limit(process.pid)  # it starts nothing before it is asked to
    return process


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    return process.returncode, errors.decode(errors="replace")


async def finished(work: Awaitable[T]) -> T:
    """Wait for ``work`` to its end, also when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
