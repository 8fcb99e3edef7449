"""Files of machines that are read and written by commands there.

Agents choose paths, and may swap what is there at any moment. Opening a FIFO waits for its other end, reading some of the
kernel's files for news; so only regular files are opened, and whatever takes too long is ended.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import IO, Final

from ramure.executor import in_thread
from ramure.machines.checks import check_path
from ramure.machines.commands import CommandMachine, Running, end, spool
from ramure.machines.errors import FileRefused, NoSuchFile
from ramure.machines.files.framing import packed
from ramure.machines.files.passing import read_by_command, write_by_command
from ramure.machines.reaper.reaper import Sink

__all__ = ["FILE_LIMIT", "READ", "FilesByCommand", "file_limit"]

FILE_LIMIT: Final = 20.0
"""Seconds without progress after which the reading or writing of a file is given up."""
SLOWEST: Final = 1 << 20
"""Bytes a second: how fast a file is written at least, where its progress cannot be seen."""

_WHAT: Final = r"""
LC_ALL=C; export LC_ALL
file=$(printf %b. "$1"); file=${file%.}
regular() {
    if [ -f "$1" ] || [ ! -e "$1" ]; then return; fi
    if [ -d "$1" ]; then what=directory
    elif [ -p "$1" ]; then what=FIFO
    elif [ -S "$1" ]; then what=socket
    else what=device; fi
    echo "it is a $what, not a regular file" >&2
    exit 46
}
regular "$file"
"""
"""Refuses what is not a regular file; a path that leads nowhere yet passes. The path is packed, for it may be no UTF-8."""

READ: Final = (
    _WHAT
    + r"""
[ -e "$file" ] || exit 44
exec 3<"$file" || exit 47
regular /dev/fd/3
exec cat <&3
"""
)
"""Reads the file $1. It is looked at again once it is open: what is there may have been swapped."""

WRITE: Final = (
    _WHAT
    + r"""
set -e
if [ -n "$3" ]; then umask 077; fi
mkdir -p -- "$(dirname -- "$file")"
if [ -n "$3" ]; then : >>"$file"; chmod -- "$3" "$file"; fi
exec 3>"$file"
regular /dev/fd/3
cat >&3
exec 3>&-
if [ -f "$file" ] && [ "$(wc -c <"$file")" -ne "$2" ]; then echo "it was cut short" >&2; exit 48; fi
"""
)
"""Writes the file $1, of $2 bytes; $3 is its mode if that is to be set, before the first byte."""


def file_limit(size: int = 0) -> float:
    """Seconds that a file of so many bytes may take where its progress cannot be seen."""
    return FILE_LIMIT + size / SLOWEST


class FilesByCommand(CommandMachine):
    """A machine whose files are read and written by commands on it."""

    @abstractmethod
    async def _run_script(self, argv: list[str], sink: Sink, stdin: IO[bytes] | None) -> Running:
        """Start ``/bin/sh -c`` with these arguments."""

    @abstractmethod
    def _full(self, path: str) -> str:
        """The full path."""

    async def write_file(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """As :meth:`Machine.write_file`; ``mode`` is set before the first byte is written."""
        self._check()
        check_path(path)
        words = [str(len(data)), "" if mode is None else f"{mode:o}"]
        with await in_thread(spool, data) as content:
            await self._file_script(WRITE, path, words, content, file_limit(len(data)))

    async def write_private(self, path: str, data: bytes) -> None:
        await self.write_file(path, data, mode=0o600)

    async def read_file(self, path: str) -> bytes:
        self._check()
        check_path(path)
        return await in_thread(b"".join, await self._file_script(READ, path, [], None, FILE_LIMIT))

    async def read_within(self, folder: str, path: str, limit: int) -> bytes:
        self._check()
        return await read_by_command(self, folder, path, limit)

    async def write_within(self, folder: str, path: str, data: bytes) -> None:
        self._check()
        await write_by_command(self, folder, path, data)

    async def _file_script(
        self, script: str, path: str, words: list[str], stdin: IO[bytes] | None, limit: float
    ) -> list[bytes]:
        """Run it; its output. It is ended when there was none for ``limit`` seconds."""
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        loop = asyncio.get_running_loop()
        moved = loop.time()

        def sink(source: str, data: bytes) -> None:
            nonlocal moved
            moved = loop.time()
            output[source].append(data)

        running = await self._run_script([script, "sh", packed(self._full(path)), *words], sink, stdin)
        waiting = asyncio.ensure_future(running.wait())
        try:
            while not (await asyncio.wait([waiting], timeout=moved + limit - loop.time()))[0]:
                if loop.time() >= moved + limit:
                    raise FileRefused(
                        path, f"nothing came of it for {limit:g} s: whoever is at its other end waits, or the disk"
                    )
            code = waiting.result()
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait([waiting])
                await end(running)
        error = b"".join(output["stderr"]).decode(errors="replace").strip()
        if code == 44:
            raise NoSuchFile(path)
        if code != 0:
            raise FileRefused(path, error.rpartition("\n")[2] or f"status {code}")
        return output["stdout"]
