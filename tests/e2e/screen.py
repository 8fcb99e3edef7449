"""A terminal for commands that need a real one: a tmux server of the test's own, whose screen can be read."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path


class Screen:
    """A tmux server on a socket of its own, and its one session."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.socket = directory / "own-tmux"
        kept = {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}  # it has its own
        self.environ = {**kept, "TERM": "xterm-256color"}

    def tmux(self, *command: str) -> str:
        argv = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *command]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20, env=self.environ)
        return done.stdout

    def start(self, *argv: str, columns: int = 120, lines: int = 40) -> None:
        """Run a command in it; its status is shown after it ended."""
        command = f"{shlex.join(argv)}; echo status $?; exec cat"
        size = ("-x", str(columns), "-y", str(lines))
        self.tmux("new-session", "-d", "-s", "t", *size, "sh", "-c", command)

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "=t:")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "=t:", *keys)

    def wait_for(self, text: str, within: float = 40) -> str:
        """Wait until the screen has this text; the screen."""
        deadline = time.monotonic() + within
        while text not in (screen := self.text):
            assert time.monotonic() < deadline, f"{text!r} not on the screen within {within} s:\n{screen}"
            time.sleep(0.05)
        return screen

    async def shows(self, text: str, within: float = 40) -> str:
        """The same, beside other tasks."""
        return await asyncio.to_thread(self.wait_for, text, within)

    def close(self) -> None:
        self.tmux("kill-server")
        self.socket.unlink(missing_ok=True)
