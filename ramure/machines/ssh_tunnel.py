"""A reverse tunnel: a port on a remote host's loopback address that leads back to a port of ours. Blocking code."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from ramure.machines.errors import LinkLost, NotSupported
from ramure.machines.ssh_connection import Connection

if TYPE_CHECKING:
    import paramiko

    from ramure.machines.ssh_connection import Pool

__all__ = ["Tunnel"]

SIZE = 1 << 16


class Tunnel:
    """Leads ``remote_port`` there to ``port`` here, on a connection of its own. Any user of the host can reach it:
    what listens here must ask for a token."""

    def __init__(self, pool: Pool, port: int) -> None:
        self.port = port
        self.remote_port = 0
        self._pool = pool
        self._connection: Connection | None = None

    @property
    def alive(self) -> bool:
        return self._connection is not None and self._connection.alive

    def open(self) -> None:
        """Open it, or open it again on the port that it had. Raises MachineError."""
        import paramiko

        self.close()
        connection = Connection(self._pool.target)
        try:
            self.remote_port = connection.transport.request_port_forward("127.0.0.1", self.remote_port, self._accept)
        except (paramiko.SSHException, EOFError, OSError) as error:
            alive = connection.alive
            connection.close()
            if alive:  # so it was the server's answer
                what = "reverse tunnels (its SSH server refuses them); give the run a base_url= that it can reach"
                raise NotSupported(str(self._pool.target), what) from error
            raise LinkLost(str(self._pool.target), "the opening of a reverse tunnel", str(error)) from error
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _accept(self, channel: paramiko.Channel, _origin: tuple[str, int], _server: tuple[str, int]) -> None:
        """Called on the transport's thread, which must not be held up."""
        threading.Thread(target=self._serve, args=(channel,), name=f"tunnel to {self.port}", daemon=True).start()

    def _serve(self, channel: paramiko.Channel) -> None:
        try:
            here = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        except OSError:  # nobody listens here: as if the port were closed
            channel.close()
            return
        here.settimeout(None)
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=(here, channel), name=f"tunnel from {self.port}", daemon=True)
        back.start()
        _pump(channel, here)
        back.join()
        here.close()


def _pump(source: socket.socket | paramiko.Channel, sink: socket.socket | paramiko.Channel) -> None:
    """Copy until either end closes; then both do."""
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(SIZE):
            sink.sendall(data)
    for end in (source, sink):
        if isinstance(end, socket.socket):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        else:
            end.close()
