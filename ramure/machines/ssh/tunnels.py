"""The reverse tunnels of a machine on an SSH host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from ramure.machines.errors import LinkLost, MachineError
from ramure.machines.ssh.connection import Connection
from ramure.machines.ssh.pool import Pool
from ramure.machines.ssh.tunnel import Tunnel

__all__ = ["Tunnels"]

RETRY: Final = 0.5
"""Seconds between two tries to open a tunnel again."""


class Call(Protocol):
    """Calls a blocking function in a thread of the machine."""

    def __call__(self, function: Blocking, connection: Connection, /) -> Awaitable[None]: ...


class Blocking(Protocol):
    def __call__(self, connection: Connection, /) -> None: ...


class Tunnels:
    """Open reverse tunnels, and open them again on the port that they had when a link broke. One event loop."""

    def __init__(self, pool: Pool, call: Call) -> None:
        self._pool = pool
        self._call = call
        self._tunnels: dict[int, Tunnel] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._tunnels)

    async def remote_port(self, port: int) -> int:
        """Return the port on the host's loopback address that leads to ``port`` here. Opens the tunnel if there is none."""
        async with self._opening:
            if port not in self._tunnels:
                tunnel = Tunnel(port)
                await self._open(tunnel)
                self._tunnels[port] = tunnel
        return self._tunnels[port].remote_port

    async def mend(self) -> None:
        """Open those again whose connection is gone. Returns early when another link breaks meanwhile."""
        for tunnel in list(self._tunnels.values()):
            if tunnel.transport is not None and self._pool.of(tunnel.transport) is not None:
                continue
            opening = asyncio.ensure_future(self._open(tunnel))
            losing = asyncio.ensure_future(self._pool.lost.wait())
            try:
                await asyncio.wait((opening, losing), return_when=asyncio.FIRST_COMPLETED)
                if not opening.done():  # whether the host is there at all comes first
                    return
                await opening
            except MachineError:  # it broke again, or the port is not free yet
                await asyncio.sleep(RETRY)
                self._pool.lost.set()
            finally:
                opening.cancel()
                losing.cancel()
                await asyncio.gather(opening, losing, return_exceptions=True)

    async def _open(self, tunnel: Tunnel) -> None:
        """On a connection of its own, which is not leased."""
        transport = await self._pool.connect(reserved=True)
        connection = self._pool.of(transport)
        if connection is None:
            raise LinkLost(str(self._pool.target), "the opening of a reverse tunnel", "closed")
        try:
            await self._call(tunnel.open, connection)
        except BaseException:
            transport.exit("shutdown")
            raise
        tunnel.transport = transport
