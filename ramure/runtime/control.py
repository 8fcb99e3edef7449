"""The control socket: how other programs of the same user see into a run, and act on it.

msgpack both ways: a request is ``[id, method, arguments]``, an answer ``[id, true, value]`` or
``[id, false, {"error": class, "text": ...}]``. The peer's uid must be ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgpack

from ramure.actors import Actor
from ramure.errors import UsageError
from ramure.runtime.status import agent_attach, run_status

if TYPE_CHECKING:
    from ramure.runtime.run import Run

__all__ = ["MAX_REQUEST", "ControlActor"]

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request. Nothing that a person or program asks for needs more."""


class ControlActor(Actor):
    """Owns the socket. Each client is served by a task; none can hold up another, or the run."""

    async def init(self, run: Run) -> None:
        self.trap_exit = True
        self._run = run
        self._clients: set[asyncio.StreamWriter] = set()
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "status": lambda: run_status(run),
            "attach": lambda agent: agent_attach(run, agent),
        }
        path = run.paths.socket
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # In a directory that only its owner gets into. Not by the umask, which is the whole program's.
            listening.bind(str(path))
            path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._accept, sock=listening)
        except BaseException:
            listening.close()
            raise

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _peer_uid(writer) not in (os.getuid(), None):
            writer.close()
            return
        self._clients.add(writer)
        self.start_task(self._serve(reader, writer), name="control client")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=MAX_REQUEST, strict_map_key=False)
        try:
            while data := await reader.read(65536):
                unpacker.feed(data)
                for request in unpacker:
                    writer.write(msgpack.packb(await self._answer(request), default=repr))
                    await writer.drain()
        except (msgpack.UnpackException, msgpack.exceptions.ExtraData, ValueError, OSError):
            pass  # rubbish, too much of it, or a client that left: it loses its connection, nobody else anything
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, request: Any) -> list[Any]:
        try:
            number, method, arguments = request
            if method not in self._methods or not isinstance(arguments, dict):
                raise UsageError(f"unknown request {method!r}; known: {', '.join(self._methods)}")
            return [number, True, await self._methods[method](**arguments)]
        except Exception as error:
            number = request[0] if isinstance(request, list) and request else None
            return [number, False, {"error": type(error).__name__, "text": str(error)}]

    def handle_info(self, message: object) -> None:
        """Nothing is expected."""

    async def terminate(self, reason: object) -> None:
        self._server.close()
        for writer in list(self._clients):
            writer.transport.abort()


def _peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """The uid of the process at the other end; None where the system does not say (mode 0600 must do there)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
