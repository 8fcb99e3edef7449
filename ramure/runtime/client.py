"""The client of the control socket: finds live runs and asks them. Blocking; imports no more than it needs."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack

from ramure.errors import OperationalError, UsageError
from ramure.home import ramure_home

__all__ = ["NoSuchRun", "RequestFailed", "RunClient", "find_run", "live_runs"]


class NoSuchRun(UsageError):
    """No live run fits."""


class RequestFailed(OperationalError):
    """The run refused a request, or is gone. ``kind`` is the name of the exception over there."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class RunClient:
    """A connection to one run."""

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self.execution_id = path.stem
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._numbers = itertools.count(1)
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        try:
            self._socket.connect(str(path.resolve()))  # a link, where the path itself is too long for a socket
        except OSError:
            self._socket.close()
            raise

    def request(self, method: str, **arguments: Any) -> Any:
        """Ask, and return the answer. Raises :class:`RequestFailed`."""
        number = next(self._numbers)
        try:
            self._socket.sendall(msgpack.packb([number, method, arguments]))
            while True:
                for answered, ok, value in self._unpacker:
                    if answered == number:
                        if ok:
                            return value
                        raise RequestFailed(value["error"], value["text"])
                data = self._socket.recv(65536)
                if not data:
                    raise RequestFailed("RunEnded", f"the run {self.execution_id} ended before it answered")
                self._unpacker.feed(data)
        except TimeoutError as error:
            raise RequestFailed("Timeout", f"the run {self.execution_id} does not answer") from error
        except OSError as error:
            raise RequestFailed("RunEnded", f"the run {self.execution_id} is gone: {error}") from error

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def sockets() -> list[Path]:
    """Every control socket of this user, also those that dead runs have left."""
    place = ramure_home() / "runtimes"
    return sorted(place.glob("*.sock")) if place.is_dir() else []


def live_runs() -> Iterator[RunClient]:
    """A client of each live run; close them."""
    for path in sockets():
        try:
            yield RunClient(path)
        except OSError:
            continue  # its run is dead: `ramure gc` removes it


def find_run(prefix: str | None = None) -> RunClient:
    """The live run whose id begins with ``prefix``; without one, the only live run. Raises :class:`NoSuchRun`."""
    clients = list(live_runs())
    fitting = [client for client in clients if client.execution_id.startswith(prefix or "")]
    for client in clients:
        if client not in fitting or len(fitting) != 1:
            client.close()
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(client.execution_id for client in (fitting or clients))
    if not clients:
        raise NoSuchRun("no run is live; start one, then try again")
    if not fitting:
        raise NoSuchRun(f"no live run's id begins with {prefix!r}; there are: {names}")
    raise NoSuchRun(f"several runs are live; say which with --id: {names}")
