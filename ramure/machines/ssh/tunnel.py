"""A reverse tunnel: a port on a remote host's loopback address that leads back to a port of ours. Blocking code."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from ramure.machines.errors import NotSupported

if TYPE_CHECKING:
    import paramiko

    from ramure.actors import Ref
    from ramure.machines.ssh.connection import Connection
    from ramure.machines.ssh.pool import TransportActor

__all__ = ["Tunnel"]

SIZE = 1 << 16

IDENTITY = r"""
identity() { ps -o comm= -p "$1"; cut -d " " -f 22 "/proc/$1/stat" 2>/dev/null || ps -o lstart= -p "$1"; }
"""
"""What a process is and since when: its number may become another's."""

SERVER = (
    IDENTITY
    + r"""
at=$$
while at=$(ps -o ppid= -p "$at" | tr -d " ") && [ "${at:-0}" -gt 1 ]; do
    case $(ps -o comm= -p "$at") in sshd*) echo "$at"; identity "$at"; break ;; esac
done
:
"""
)
"""Says which sshd serves the connection."""

RELEASE = (
    IDENTITY
    + r"""
[ "$(identity "$1")" = "$2" ] || exit 0
case "$2" in sshd*) kill -TERM "$1" ;; esac
for wait in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
"""
)
"""Ends the sshd ($1, and what it is) of the connection before: when the link broke without a word, it has not noticed
yet, and still holds the port."""


class Tunnel:
    """Leads ``remote_port`` there to ``port`` here, on a connection of its own. Any user of the host can reach it:
    what listens here must ask for a token."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.remote_port: int = 0
        self.transport: Ref[TransportActor] | None = None
        self._server: tuple[str, str] | None = None

    def open(self, connection: Connection) -> None:
        """Open it, or open it again on the port that it had. Blocks; raises MachineError."""
        import paramiko

        try:
            try:
                port = self._request(connection)
            except paramiko.SSHException:
                if self._server is None:
                    raise
                connection.call(["/bin/sh", "-c", RELEASE, "sh", *self._server], limit=connection.target.dead_after)
                port = self._request(connection)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if connection.alive and not self.remote_port:  # so it was the server's answer
                what = "reverse tunnels (its SSH server refuses them); give the run a base_url= that it can reach"
                raise NotSupported(str(connection.target), what) from error
            raise connection.lost("the opening of a reverse tunnel", error) from error
        self.remote_port = port
        _, said, _ = connection.call(["/bin/sh", "-c", SERVER], limit=connection.target.dead_after)
        pid, _, identity = said.decode(errors="replace").strip().partition("\n")
        self._server = (pid, identity) if pid.isdecimal() and identity else None

    def _request(self, connection: Connection) -> int:
        with connection.requesting:
            return connection.transport.request_port_forward("127.0.0.1", self.remote_port, self._accept)

    def _accept(self, channel: paramiko.Channel, _origin: tuple[str, int], _server: tuple[str, int]) -> None:
        """Called on the transport's thread, which must not be held up."""
        threading.Thread(target=self._serve, args=(channel,), name=f"tunnel to {self.port}", daemon=True).start()

    def _serve(self, channel: paramiko.Channel) -> None:
        try:
            here = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        except OSError:  # nobody listens here: as if the port were closed
            with contextlib.suppress(OSError, EOFError):
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
            with contextlib.suppress(OSError, EOFError):  # the connection may be gone
                end.close()
