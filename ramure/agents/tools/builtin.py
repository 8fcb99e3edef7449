"""The tools that connected agents have: ``message``, ``send_file`` and ``download_file``.

They belong to the agent that uses them, and find the other one among those it is connected to.
"""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from ramure.actors import Ref
from ramure.agents.requests import Say
from ramure.agents.tools.schema import Tool
from ramure.errors import ActorDied, OperationalError, UsageError
from ramure.exits import format_exit
from ramure.machines.actor import GetMachine
from ramure.machines.base import OUR_LIMIT
from ramure.machines.checks import check_size
from ramure.machines.errors import OutsideFolder
from ramure.machines.files.passing import limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ramure.machines.base import Machine

__all__ = ["ANYWHERE", "FILE_LIMIT", "NO_FILES", "WORKDIR", "NotConnected", "Peer", "builtin_tools"]

FILE_LIMIT: Final = 512 * 1024 * 1024
"""Bytes of a file that is passed on: it goes through the run's memory."""

WORKDIR: Final = "workdir"
"""``connect(files=)``: files in the working directory of each agent's machine are passed on, no others."""

ANYWHERE: Final = "machine"
"""``connect(files=)``: files at any path of the machines are."""

NO_FILES: Final = "none"
"""``connect(files=)``: none are."""


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
    files: str = WORKDIR
    """Which files are passed on, from and to both machines: WORKDIR, ANYWHERE, NO_FILES, or a folder."""


def builtin_tools(me: str, machine: Callable[[], Machine], peers: Mapping[str, Peer]) -> list[Tool]:
    """The tools of the agent ``me``; ``peers`` is read anew at each call."""
    reachable = sorted(address for address, peer in peers.items() if peer.reachable)
    connected = f"You are connected to: {', '.join(reachable) or 'nobody (others can reach you)'}."
    where_to = _where_to([peer for peer in peers.values() if peer.reachable])

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

    async def copy(peer: Peer, source: Machine, path: str, target: Machine, to_path: str | None) -> tuple[str, int]:
        where = to_path or posixpath.basename(path)
        theirs = f"the machine of {peer.name!r}"
        data = await _read(peer.files, source, path, "yours" if source is machine() else theirs)
        await _write(peer.files, target, where, data, "yours" if target is machine() else theirs)
        inside = peer.files not in (WORKDIR, ANYWHERE)
        return posixpath.join(peer.files, where) if inside else where, len(data)

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
        _check_passing(peer)
        where, size = await copy(peer, machine(), path, await _machine_of(peer), to_path)
        await tell(peer, f"{me} sent you a file: {where} ({size} bytes).")
        return f"Sent to {to} as {where} ({size} bytes)."

    async def download_file(
        source: Annotated[str, "the name of the agent that has it"],
        path: Annotated[str, "the file on their machine"],
        to_path: Annotated[str | None, "where it goes on yours; without it, the file's name in your directory"] = None,
    ) -> str:
        peer = find(source)
        _check_passing(peer)
        where, size = await copy(peer, await _machine_of(peer), path, machine(), to_path)
        return f"Downloaded from {source} as {where} ({size} bytes)."

    message.__doc__ = f"Send a message to another agent. {connected}"
    send_file.__doc__ = f"Copy a file from your machine to another agent's, and tell it. {where_to}{connected}"
    download_file.__doc__ = f"Copy a file from another agent's machine to yours. {where_to}{connected}"
    if all(peer.files == NO_FILES for peer in peers.values()):
        return [Tool.of(message)]
    return [Tool.of(tool) for tool in (message, send_file, download_file)]


def _check_passing(peer: Peer) -> None:
    if peer.files == NO_FILES:
        raise NotConnected(
            f"the connection with {peer.name!r} passes messages, no files: the program that made it says so "
            '(connect(..., files="none"))'
        )


def _where_to(peers: list[Peer]) -> str:
    """What the tools' descriptions say about paths."""
    allowed = {peer.files for peer in peers} - {NO_FILES}
    if allowed == {WORKDIR}:
        return "Only files in the working directories, yours and theirs, can be copied. "
    folders = [f"with {peer.address}: {_named(peer.files)}" for peer in peers if peer.files != ANYWHERE]
    return f"Where the files must be, on both machines ({'; '.join(folders)}). " if folders else ""


def _named(files: str) -> str:
    return {WORKDIR: "the working directory", NO_FILES: "no files are copied"}.get(files, f"the folder {files}")


async def _read(files: str, machine: Machine, path: str, whose: str) -> bytes:
    if files == ANYWHERE:
        size = await _size_of(machine, path)
        check_size(path, size, FILE_LIMIT)
        async with limited("reading", path, size):
            data = await machine.read_file(path)
        check_size(path, len(data), FILE_LIMIT)
        return data
    try:
        return await machine.read_within(_folder(files), path, FILE_LIMIT)
    except OutsideFolder as error:
        raise _outside(error, whose) from error


async def _write(files: str, machine: Machine, path: str, data: bytes, whose: str) -> None:
    async with limited("writing", path, len(data)):
        if files == ANYWHERE:
            await machine.write_file(path, data)
            return
        try:
            await machine.write_within(_folder(files), path, data)
        except OutsideFolder as error:
            raise _outside(error, whose) from error


def _outside(error: OutsideFolder, whose: str) -> OutsideFolder:
    """The error with what the model can do about it, and what only the program can."""
    why = (
        f"it leads outside {error.folder}, the folder of {'your machine' if whose == 'yours' else whose} that files are copied from "
        'and to; use a path in it (only the program that connected you can allow more: connect(..., files="machine"), or a folder)'
    )
    return OutsideFolder(error.path, error.folder, why)


def _folder(files: str) -> str:
    return "." if files == WORKDIR else files


async def _size_of(machine: Machine, path: str) -> int:
    """The size of a file as a command tells it: to read one that is far too large would take the run's memory. 0 where
    none does (there is no such file, say, or no shell): reading it tells the rest."""
    quoted = shlex.quote(path)
    told = await machine.exec(f"[ -f {quoted} ] && wc -c < {quoted}", timeout=OUR_LIMIT)
    size = told.stdout.strip()
    return int(size) if told.ok and size.isdecimal() else 0


async def _machine_of(peer: Peer) -> Machine:
    try:
        found: Machine = await peer.machine.ask(GetMachine(), timeout=None)
    except ActorDied as died:
        raise OperationalError(f"the machine of {peer.name!r} is no longer there: {format_exit(died.reason)}") from died
    return found
