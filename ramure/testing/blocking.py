"""Blocking calls on an event loop, caught where they are made.

While :func:`detect_blocking_calls` is in force, the blocking calls of the standard library are wrapped: made on a
thread whose event loop is running, by anything but asyncio itself, each is written down with its stack, and goes on.
What is not seen: reading and writing files, pure computation, and C code that blocks by itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

__all__ = ["BlockingCall", "detect_blocking_calls"]

MODULES_BETWEEN: Final = (
    "concurrent.futures",
    "contextlib",
    "queue",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "ramure.testing.blocking",
)
"""Whose frames are part of the call, and not its maker's."""

MODULES_ALLOWED: Final = ("asyncio", "ramure.testing.virtual")
"""Who may: event loops know what they do (as when they join the threads of an executor that has shut down)."""


@dataclass(frozen=True, slots=True)
class BlockingCall:
    """One call: its name (as ``time.sleep``), who made it (``file:line``), and the stack, for people."""

    name: str
    where: str
    stack: str

    def __str__(self) -> str:
        return f"{self.name} blocked the event loop, called at {self.where}\n{self.stack}"


@contextmanager
def detect_blocking_calls() -> Iterator[list[BlockingCall]]:
    """Write down the blocking calls made on event loops while the block runs; the list grows as they are made."""
    calls: list[BlockingCall] = []
    undo: list[Callable[[], None]] = []
    try:
        for owner, name, shown, blocks in _WATCHED:
            undo.append(_wrap(owner, name, shown, blocks, calls))
        yield calls
    finally:
        for restore in reversed(undo):
            restore()


def _wrap(
    owner: Any, name: str, shown: str, blocks: Callable[..., bool], calls: list[BlockingCall]
) -> Callable[[], None]:
    original = getattr(owner, name)
    inherited = isinstance(owner, type) and name not in vars(owner)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if asyncio._get_running_loop() is not None and blocks(*args, **kwargs):
            maker = _maker()
            if maker is not None:
                call = BlockingCall(shown, f"{maker.f_code.co_filename}:{maker.f_lineno}", _stack(maker))
                calls.append(call)
        return original(*args, **kwargs)

    def restore() -> None:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    setattr(owner, name, watched)
    return restore


def _maker() -> FrameType | None:
    """The frame that made the call, or None when it is allowed to."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == "threading" and frame.f_code.co_name == "start":
            return None  # a thread's start waits for the thread to run: short, and nobody can do without
        if not _is_in(module, MODULES_BETWEEN):
            return None if _is_in(module, MODULES_ALLOWED) else frame
        frame = frame.f_back
    return None


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _stack(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame, limit=8))


def _always(*args: Any, **kwargs: Any) -> bool:
    return True


def _sleeps(seconds: float) -> bool:
    return seconds > 0


def _waits(condition: object, timeout: float | None = None) -> bool:
    return timeout is None or timeout > 0


def _joins(thread: threading.Thread, timeout: float | None = None) -> bool:
    return thread.is_alive() and (timeout is None or timeout > 0)


def _is_awaited(process: subprocess.Popen[Any], timeout: float | None = None) -> bool:
    # Not poll(): whether it has ended meanwhile is chance, and the call is wrong either way.
    return process.returncode is None and (timeout is None or timeout > 0)


def _is_read(process: subprocess.Popen[Any], input: Any = None, timeout: float | None = None) -> bool:
    return _is_awaited(process, timeout)


def _waits_for_child(pid: int, options: int) -> bool:
    return not options & os.WNOHANG


def _is_blocking(sock: socket.socket, *args: Any, **kwargs: Any) -> bool:
    return sock.gettimeout() != 0


def _locks(file: Any, operation: int, *args: Any) -> bool:
    return not operation & (fcntl.LOCK_NB | fcntl.LOCK_UN)


def _selects(readers: Any, writers: Any, others: Any, timeout: float | None = None) -> bool:
    return timeout is None or timeout > 0


def _resolves(host: Any, *args: Any, **kwargs: Any) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host or "0.0.0.0")
        except (OSError, TypeError):
            continue
        return False
    return True


_SOCKET_CALLS: Final = ("accept", "connect", "recv", "recv_into", "recvfrom", "send", "sendall", "sendto")

_WATCHED: Final[tuple[tuple[Any, str, str, Callable[..., bool]], ...]] = (
    (time, "sleep", "time.sleep", _sleeps),
    (threading.Condition, "wait", "threading: a wait (Event, Condition, Queue, Future.result ...)", _waits),
    (threading.Thread, "join", "Thread.join", _joins),
    (subprocess.Popen, "wait", "Popen.wait", _is_awaited),
    (subprocess.Popen, "communicate", "Popen.communicate", _is_read),
    (os, "system", "os.system", _always),
    (os, "waitpid", "os.waitpid", _waits_for_child),
    (select, "select", "select.select", _selects),
    (fcntl, "flock", "fcntl.flock", _locks),
    (fcntl, "lockf", "fcntl.lockf", _locks),
    (socket, "getaddrinfo", "socket.getaddrinfo", _resolves),
    *((socket.socket, name, f"socket.{name}", _is_blocking) for name in _SOCKET_CALLS),
)
