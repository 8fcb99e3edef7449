"""Who may knock at the gateway, and how many at a time: another user of this machine can connect to it, without a token.

A connection is a *stranger* until its token was seen. There are few strangers at a time; the kernel's queue is emptied a
few connections in each turn of the event loop, however many come; and a descriptor is held back with which a connection can
be taken and closed when there is no other left. (asyncio takes as many in one turn as its backlog says, and reports each one
that it has no descriptor for with a traceback.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event

__all__ = ["BATCH", "Doorkeeper", "Listener", "Stranger"]

BATCH: Final = 16
"""Connections that are taken in one turn of the event loop, at most."""

BACKLOG: Final = 4096
"""Connections that wait in the kernel: hundreds of agents may connect at once."""

STRANGERS: Final = 512
"""Connections without a token that was seen, at most; fewer where descriptors are few."""

GRACE: Final = 1.0
"""Seconds that a stranger may keep its place while others wait: an extension shows its token within milliseconds."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Doorkeeper:
    """Keeps the number of strangers within its limit."""

    def __init__(self, limit: int | None = None) -> None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        few = STRANGERS if soft == resource.RLIM_INFINITY else max(8, min(STRANGERS, soft // 8))
        self.limit: int = few if limit is None else limit
        self.turned_away: int = 0
        """How many were closed without a word."""
        self._strangers: dict[ServerConnection, float] = {}
        self._coming = 0  # taken from the kernel's queue, and not yet a Stranger

    def admits(self) -> bool:
        """Whether one more may come in. The one that has waited longest without a token goes for it."""
        if len(self._strangers) + self._coming >= self.limit:
            longest = next(iter(self._strangers), None)
            if longest is None or time.monotonic() - self._strangers[longest] < GRACE:
                self.turned_away += 1
                return False
            self.known(longest)
            longest.transport.abort()
        self._coming += 1
        return True

    def came(self, stranger: ServerConnection) -> None:
        """It is connected."""
        self._coming = max(0, self._coming - 1)
        self._strangers[stranger] = time.monotonic()

    def known(self, stranger: ServerConnection) -> None:
        """It is no stranger any more: it has shown a token that is expected, or it is gone."""
        self._strangers.pop(stranger, None)

    def send_away(self) -> None:
        """End the connections of all strangers: nobody is let in any more."""
        for stranger in list(self._strangers):
            stranger.transport.abort()

    def connections(self) -> type[ServerConnection]:
        """The class of the clients' connections: websockets' ``create_connection``."""

        class AtThisDoor(Stranger):
            door = self

        return AtThisDoor


class Stranger(ServerConnection):
    """A client's connection, which tells the doorkeeper when it comes and goes."""

    door: Doorkeeper
    at_once: Callable[[Frame], bool] | None = None
    """Is given each frame of a message as it comes, and returns whether it has dealt with it: else it waits for ``recv``."""

    def process_event(self, event: Event) -> None:
        if (
            self.at_once is not None
            and isinstance(event, Frame)
            and event.opcode in DATA_OPCODES
            and self.at_once(event)
        ):
            return
        super().process_event(event)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.door.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.known(self)
        super().connection_lost(exc)


class Listener(socket.socket):
    """A listening socket whose :meth:`accept` asks the doorkeeper, and never fails for want of descriptors."""

    door: Doorkeeper
    _spare: int = -1

    @classmethod
    def at(cls, address: str, port: int, door: Doorkeeper) -> Listener:
        """Bind to an address. Raises OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # The protocol is said, for asyncio looks at it: only then does it switch Nagle's algorithm off, which costs 40 ms.
        listener = cls(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        listener.door = door
        listener._hold_back()
        return listener

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """As socket's, with room for many whatever asyncio asks for: its number is that of connections in a turn."""
        super().listen(max(backlog, BACKLOG))

    def accept(self) -> tuple[socket.socket, Any]:
        """As socket's; raises BlockingIOError when nobody waits whom the doorkeeper admits."""
        for _ in range(BATCH):
            try:
                client, address = super().accept()
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._turn_one_away()
                continue
            if self.door.admits():
                return client, address
            client.close()
        raise BlockingIOError

    def _turn_one_away(self) -> None:
        """Take one from the queue with the descriptor that was held back, so that it does not wake the loop for ever."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with contextlib.suppress(OSError):
            super().accept()[0].close()
            self.door.turned_away += 1
        self._hold_back()

    def _hold_back(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        super().close()
