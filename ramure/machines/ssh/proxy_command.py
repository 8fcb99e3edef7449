"""A ProxyCommand: a program of the user's that carries an SSH connection. Blocking code.

It gets a socket as its input and output. paramiko's own ``ProxyCommand`` splits the line itself, without a shell, and reads
its pipe a piece at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from typing import IO

from ramure.forks import keep_from_forks

__all__ = ["Proxy"]

END_LIMIT = 2.0
"""Seconds that it has for its end, after SIGTERM."""


class Proxy:
    """The command, run by the user's shell as ``ssh`` does. ``socket`` is our end of it."""

    def __init__(self, command: str) -> None:
        self.socket: socket.socket
        self.socket, theirs = socket.socketpair()
        keep_from_forks(self.socket, lambda ours: [ours])
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with it
        shell = os.environ.get("SHELL") or shutil.which("sh") or "/bin/sh"
        try:
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def ended(self) -> str:
        """What it wrote to its standard error, and its status if it has ended; "" if there is nothing to tell."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        status = self._process.poll()
        self._said.seek(0)
        said = " ".join(self._said.read(4096).decode(errors="replace").split())
        return f"{said} (status {status})".strip() if status else said

    def close(self) -> None:
        """End it, with what it started."""
        self._said.close()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT)
                break
