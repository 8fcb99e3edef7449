"""The blocking client: what the command line asks live runs with. Imports no asyncio, so a command starts quickly."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self

from ramure.runtime.control.errors import RequestFailed, RunGone
from ramure.runtime.control.find import address, choose, sockets
from ramure.runtime.control.values import pack, unpacker
from ramure.runtime.control.wire import MAX_ANSWER, MAX_REQUEST, failure, gone

__all__ = ["Items", "RunClient", "ask_each", "find_run", "live_runs"]


class RunClient:
    """A connection to one run. ``timeout`` is the seconds that an answer may take, unless a request says otherwise."""

    def __init__(self, path: Path, timeout: float | None = 5.0) -> None:
        self.execution_id: str = path.stem
        self.alone = True
        """Whether its run was the only live one when :func:`find_run` looked."""
        self.output = -1
        """A descriptor that is written what a stream gives: once nobody reads it any more, waiting for more raises
        BrokenPipeError."""
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._last = 0
        self._frames = unpacker(MAX_ANSWER + MAX_REQUEST)
        try:
            self._socket.connect(address(path))
        except OSError:
            self._socket.close()
            raise

    def request(self, method: str, /, *, timeout: float | EllipsisType | None = ..., **arguments: Any) -> Any:
        """Ask, and return the answer. Raises :class:`RequestFailed`, and :class:`RunGone` if there is none.

        ``timeout``: seconds, if not those of the client; None to wait for as long as the run lives.
        """
        number = self.ask(method, **arguments)
        return self.answer(number, self._timeout if isinstance(timeout, EllipsisType) else timeout)

    def ask(self, method: str, /, **arguments: Any) -> int:
        """Send a request, without waiting for :meth:`answer`; returns its number."""
        self._last += 1
        frame = pack([self._last, method, arguments], MAX_REQUEST)
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(frame)
        except OSError as error:
            raise self._gone(error) from error
        return self._last

    def answer(self, number: int, timeout: float | None) -> Any:
        """The answer to a request."""
        frame = self._next(number, timeout)
        if frame[1] is True:
            return frame[2]
        raise failure(frame[2])

    def stream(self, method: str, /, **arguments: Any) -> Items:
        """The items of a stream, as they come: iterate. Close the client to end it."""
        return Items(self, self.ask(method, **arguments))

    def _next(self, number: int, timeout: float | None) -> list[Any]:
        """The next frame about a request."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                for frame in self._frames:
                    if isinstance(frame, list) and len(frame) == 3 and frame[0] in (number, None):
                        return frame
                self._socket.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                if self.output >= 0 and deadline is None:
                    self._watch_output()
                data = self._socket.recv(1 << 16)
                if not data:
                    raise gone(self.execution_id, "has ended")
                self._frames.feed(data)
        except BrokenPipeError:  # of the output that is watched: a socket that is read has none
            raise
        except OSError as error:
            raise self._gone(error) from error

    def _watch_output(self) -> None:
        """Wait for data, or raise BrokenPipeError when nobody reads what ``output`` leads to any more."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self.output, 0)  # errors are told unasked
        if any(number == self.output for number, _ in poll.poll()):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _gone(self, error: OSError) -> RunGone:
        if isinstance(error, TimeoutError):
            return gone(self.execution_id, "does not answer: its event loop is blocked, or it is stopped", "Timeout")
        return gone(self.execution_id, f"is gone: {error}")

    def wait_end(self, timeout: float) -> bool:
        """Whether the run ends within ``timeout`` seconds; nothing else may be under way."""
        deadline = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            try:
                if not self._socket.recv(1 << 16):
                    return True
            except OSError:
                return True

    def peer_pid(self) -> int:
        """The process id of the run's program, also if it does not answer."""
        if hasattr(socket, "SO_PEERCRED"):
            size = struct.calcsize("3i")
            pid: int = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
            return pid
        return int(self.request("hello")["pid"])

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Items:
    """The items of a stream. ``dropped`` counts those that the run could not keep for us, up to now."""

    def __init__(self, client: RunClient, number: int) -> None:
        self.dropped: int = 0
        self._client = client
        self._number = number

    def __iter__(self) -> Iterator[Any]:
        while True:
            _, kind, value = self._client._next(self._number, None)
            if kind == "item":
                yield value
            elif kind == "dropped":
                self.dropped += value
            elif kind == "end":
                return
            else:
                raise failure(value)


def live_runs() -> Iterator[RunClient]:
    """A client of each live run; close them."""
    for path in sockets():
        try:
            yield RunClient(path)
        except OSError:
            continue  # its run is dead: `ramure gc` removes it


def ask_each(method: str, timeout: float = 2.0) -> tuple[dict[str, Any], dict[str, RequestFailed]]:
    """Ask all live runs at once; answers and failures by run id. Takes ``timeout`` seconds at most."""
    asked: list[tuple[RunClient, int]] = []
    answers: dict[str, Any] = {}
    failures: dict[str, RequestFailed] = {}
    deadline = time.monotonic() + timeout
    for client in live_runs():
        try:
            asked.append((client, client.ask(method)))
        except RequestFailed as error:
            failures[client.execution_id] = error
            client.close()
    for client, number in asked:
        with client:
            try:
                answers[client.execution_id] = client.answer(number, max(0.0, deadline - time.monotonic()))
            except RequestFailed as error:
                failures[client.execution_id] = error
    return answers, failures


def find_run(wanted: str | None = None, timeout: float | None = 5.0) -> RunClient:
    """A client of the live run that is meant. Raises :class:`NoSuchRun` and :class:`AmbiguousRun`."""
    clients = {client.execution_id: client for client in live_runs()}
    try:
        chosen = clients.pop(choose(wanted, list(clients)))
    finally:
        for client in clients.values():
            client.close()
    chosen._timeout = timeout
    chosen.alone = not clients
    return chosen
