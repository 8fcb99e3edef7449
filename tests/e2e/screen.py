"""A terminal for commands that need a real one: a tmux server of the test's own, whose screen can be read."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time

from tests.e2e.kit import Stage


class Screen:
    """A tmux server on a socket below the stage, and its one session."""

    def __init__(self, stage: Stage) -> None:
        self.socket = stage.run.directory / "own-tmux"
        self.environ = {**stage.environ, "TERM": "xterm-256color"}

    def tmux(self, *command: str) -> str:
        argv = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *command]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20, env=self.environ)
        return done.stdout

    def start(self, *argv: str, columns: int = 120) -> None:
        """Run a command in it; its status is shown after it ended."""
        command = f"{shlex.join(argv)}; echo status $?; exec cat"
        self.tmux("new-session", "-d", "-s", "t", "-x", str(columns), "-y", "40", "sh", "-c", command)

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "=t:")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "=t:", *keys)

    async def shows(self, text: str, within: float = 40) -> None:
        """Wait until the screen has this text."""
        deadline = time.monotonic() + within
        while text not in (screen := await asyncio.to_thread(lambda: self.text)):
            assert time.monotonic() < deadline, f"{text!r} not on the screen within {within} s:\n{screen}"
            await asyncio.sleep(0.05)

    def close(self) -> None:
        self.tmux("kill-server")
        self.socket.unlink(missing_ok=True)
