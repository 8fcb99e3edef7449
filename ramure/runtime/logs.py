"""The log writer: every log line of a run goes through this actor, which writes them off the event loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.actors import Actor, Ref

__all__ = ["Append", "LogWriter"]

GATHER: Final = 0.02
"""Seconds for which lines that nobody waits for are gathered. Each write is a switch to a thread and back, which the
event loop pays for with several tool calls' time."""


MOST_OPEN: Final = 64
"""Log files that are open at once: thousands of agents, and those that have ended, must not use up the descriptors."""


@dataclass(frozen=True, slots=True)
class Append:
    """Append ``line`` to the file; then tell ``reply_to`` the ``token``, if there is one."""

    path: Path
    line: bytes
    reply_to: Ref[Any] | None = None
    token: object = None


@dataclass(frozen=True, slots=True)
class _Due:
    """Lines that nobody waits for have waited long enough."""


class LogWriter(Actor):
    """Appends lines to files of mode 0600, many at a time: at once what somebody waits for (with all before it), the
    rest within 20 ms. A line is in the operating system's hands when its token is told, so it survives a SIGKILL of
    this program; a power cut only with ``fsync=True``."""

    async def init(self, *, fsync: bool = False) -> None:
        self.trap_exit = True
        self._fsync = fsync
        self._pending: list[Append] = []
        self._files: dict[Path, int] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._urgent = False

    def handle_info(self, message: object) -> None:
        match message:
            case Append():
                if not self._pending:
                    self.send_after(GATHER, _Due())
                self._pending.append(message)
                self._urgent = self._urgent or message.reply_to is not None
            case _Due():
                self._urgent = bool(self._pending)
            case _:
                super().handle_info(message)
        if self._urgent and self._flusher is None:
            self._flusher = self.start_task(self._flush(), name="log writer")

    async def _flush(self) -> None:
        while self._urgent:
            batch, self._pending, self._urgent = self._pending, [], False
            await asyncio.to_thread(self._write, batch)
            for append in batch:
                if append.reply_to is not None:
                    append.reply_to.tell(append.token)
        self._flusher = None

    def _write(self, batch: list[Append]) -> None:
        lines: dict[Path, list[bytes]] = {}
        for append in batch:
            lines.setdefault(append.path, []).append(append.line)
        for path, texts in lines.items():
            descriptor = self._descriptor(path)
            data = memoryview(b"".join(texts))
            while data:
                data = data[os.write(descriptor, data) :]
            if self._fsync:
                os.fsync(descriptor)

    def _descriptor(self, path: Path) -> int:
        descriptor = self._files.pop(path, None)
        if descriptor is None:
            if len(self._files) >= MOST_OPEN:
                os.close(self._files.pop(next(iter(self._files))))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        self._files[path] = descriptor  # the last written to is the last to be closed
        return descriptor

    async def terminate(self, reason: object) -> None:
        """What was appended before the end is written."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        self._urgent = True
        await self._flush()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
