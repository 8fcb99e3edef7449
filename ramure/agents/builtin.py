"""The tools that connected agents have: ``message``, ``send_file`` and ``download_file``.

They belong to the agent that uses them, and find the other one among those it is connected to.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from ramure.actors import Ref
from ramure.agents.requests import Say
from ramure.agents.schema import Tool
from ramure.errors import ActorDied, OperationalError, UsageError
from ramure.exits import format_exit
from ramure.machines.actor import GetMachine
from ramure.machines.base import OUR_LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ramure.machines.base import Machine

__all__ = ["FILE_LIMIT", "NotConnected", "Peer", "builtin_tools"]

FILE_LIMIT: Final = 512 * 1024 * 1024
"""Bytes of a file that is passed on: it goes through the run's memory."""


PASSING_LIMIT: Final = 120.0
"""Seconds that reading or writing a file that is passed on may take, and a second more for each MiB."""


class NotConnected(UsageError):
    """An agent tried to reach one that it is not connected to."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another agent, as one that is connected to it sees it."""

    name: str
    address: str
    ref: Ref[Any]
    machine: Ref[Any]
    reachable: bool
    """False where the connection goes the other way only."""


def builtin_tools(me: str, machine: Callable[[], Machine], peers: Mapping[str, Peer]) -> list[Tool]:
    """The tools of the agent ``me``; ``peers`` is read anew at each call."""
    reachable = sorted(address for address, peer in peers.items() if peer.reachable)
    connected = f"You are connected to: {', '.join(reachable) or 'nobody (others can reach you)'}."

    def find(name: str) -> Peer:
        peer = peers.get(name) or next((p for p in peers.values() if p.name == name), None)
        known = sorted(address for address, other in peers.items() if other.reachable)
        if peer is None:
            raise NotConnected(f"you are not connected to {name!r}; you are to: {', '.join(known) or 'nobody'}")
        if not peer.reachable:
            raise NotConnected(f"the connection with {name!r} goes one way: it can reach you, you cannot reach it")
        return peer

    async def tell(peer: Peer, text: str) -> None:
        try:
            await peer.ref.ask(Say(text, origin=f"agent:{me}"), timeout=None)
        except ActorDied as died:
            raise OperationalError(f"{peer.name!r} is no longer there: {format_exit(died.reason)}") from died

    async def copy(source: Machine, path: str, target: Machine, to_path: str | None) -> tuple[str, int]:
        size = await _size_of(source, path)
        _check_size(path, size)
        async with _limit("reading", path, size):
            data = await source.read_file(path)
        _check_size(path, len(data))
        where = to_path or posixpath.basename(path)
        async with _limit("writing", where, len(data)):
            await target.write_file(where, data)
        return where, len(data)

    async def message(
        to: Annotated[str, "the agent's name"],
        text: Annotated[str, "what to tell it"],
    ) -> str:
        peer = find(to)
        await tell(peer, f"Message from {me}:\n\n{text}")
        return f"Sent to {to}."

    async def send_file(
        to: Annotated[str, "the agent's name"],
        path: Annotated[str, "the file on your machine"],
        to_path: Annotated[
            str | None, "where it goes on theirs; without it, the file's name in their directory"
        ] = None,
    ) -> str:
        peer = find(to)
        where, size = await copy(machine(), path, await _machine_of(peer), to_path)
        await tell(peer, f"{me} sent you a file: {where} ({size} bytes).")
        return f"Sent to {to} as {where} ({size} bytes)."

    async def download_file(
        source: Annotated[str, "the name of the agent that has it"],
        path: Annotated[str, "the file on their machine"],
        to_path: Annotated[str | None, "where it goes on yours; without it, the file's name in your directory"] = None,
    ) -> str:
        where, size = await copy(await _machine_of(find(source)), path, machine(), to_path)
        return f"Downloaded from {source} as {where} ({size} bytes)."

    message.__doc__ = f"Send a message to another agent. {connected}"
    send_file.__doc__ = f"Copy a file from your machine to another agent's, and tell it. {connected}"
    download_file.__doc__ = f"Copy a file from another agent's machine to yours. {connected}"
    return [Tool.of(tool) for tool in (message, send_file, download_file)]


async def _size_of(machine: Machine, path: str) -> int:
    """The size of a file as a command tells it: to read one that is far too large would take the run's memory. 0 where
    none does (there is no such file, say, or no shell): reading it tells the rest."""
    quoted = shlex.quote(path)
    told = await machine.exec(f"[ -f {quoted} ] && wc -c < {quoted}", timeout=OUR_LIMIT)
    size = told.stdout.strip()
    return int(size) if told.ok and size.isdecimal() else 0


@contextlib.asynccontextmanager
async def _limit(doing: str, path: str, size: int) -> AsyncIterator[None]:
    """For machines whose file operations have no limit of their own."""
    limit = PASSING_LIMIT + size / (1 << 20)
    try:
        async with asyncio.timeout(limit) as timeout:
            yield
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise OperationalError(f"{doing} {path!r} took longer than {limit:g} s, and was given up") from error


def _check_size(path: str, size: int) -> None:
    if size > FILE_LIMIT:
        raise OperationalError(f"{path!r} has {size} bytes; at most {FILE_LIMIT} can be passed on")


async def _machine_of(peer: Peer) -> Machine:
    try:
        found: Machine = await peer.machine.ask(GetMachine(), timeout=None)
    except ActorDied as died:
        raise OperationalError(f"the machine of {peer.name!r} is no longer there: {format_exit(died.reason)}") from died
    return found
