"""A machine's SSH connections: each the property of a threaded actor, as many as the work needs.

The actors live in a system of the machine's own, which is there from its first connection to its ``stop()``: they
outlive whoever happened to need a connection first, and end with the machine, whoever uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ramure.actors import ActorSystem, Ask, Ref, Stop, ThreadedActor
from ramure.errors import ActorDied, StartFailed
from ramure.exits import Shutdown
from ramure.machines.errors import HostKeyRefused, LoginRefused, MachineDown, MachineError
from ramure.machines.ssh.config import Target
from ramure.machines.ssh.connection import Connection

__all__ = ["Pool", "TransportActor"]

OPENING_AT_ONCE = 3
"""sshd drops some of the connections that begin while ten others are not through (MaxStartups)."""
LOOKS = 15
"""How often a connection is looked at in the ``dead_after`` seconds for which it may be silent. Looks are counted, not
seconds: a clock may leap, and when this program was held up it has heard nothing either."""
ASKED = 4
"""After so many looks that found it silent a connection is asked for a sign of life; so the kernel, which waits two
thirds of the time for an answer (TCP_USER_TIMEOUT), is done in time too."""
FIRST_DELAY, LAST_DELAY = 0.2, 5.0
"""Seconds, at most, between two attempts to connect; doubled from the first to the last."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """The transport's thread has ended."""


@dataclass(frozen=True, slots=True)
class _Silent:
    """Nothing has come for a while."""


class TransportActor(ThreadedActor):
    """Owns one connection: opens it when it starts, ends when it breaks, and closes it when it ends or is killed.

    Whoever has the :class:`Connection` runs commands on it from threads of their own, several at once.
    """

    def init(self, target: Target) -> None:
        ref = self.ref
        self.connection: Connection = Connection(target, lambda: ref.tell(_Ended()))
        try:
            self.connection.open()
        except MachineError as error:  # no crash to be reported: whoever asked for the connection is told
            raise Stop(Shutdown(error)) from error

    def handle_call(self, request: object, caller: Ask) -> Connection:
        """Any request: the connection."""
        return self.connection

    def handle_info(self, message: object) -> None:
        if isinstance(message, _Ended):
            self.stop(Shutdown("the connection broke"))
        elif isinstance(message, _Silent):
            self.connection.ask()

    def terminate(self, reason: object) -> None:
        self.connection.close()

    def on_kill(self) -> None:
        connection: Connection | None = getattr(self, "connection", None)
        if connection is not None:
            connection.close()


class Pool:
    """Connections to one target, up to four commands on each. All but :meth:`alive` belong to the event loop."""

    def __init__(self, target: Target, *, patience: float) -> None:
        self.target = target
        self.lost: asyncio.Event = asyncio.Event()
        """Set when a connection has broken; whoever looks after that clears it."""
        self._patience = patience
        self._system = ActorSystem(f"ssh {target}")
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._connections: dict[Ref[TransportActor], Connection] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Connect once, without patience: the first connection's errors are the user's to see."""
        await self._system.__aenter__()
        await self.connect()

    async def connect(self, *, reserved: bool = False) -> Ref[TransportActor]:
        """One more connection; a reserved one is not leased. Raises MachineError with what went wrong."""
        try:
            ref = await self._system.options(label=f"ssh to {self.target}").start(TransportActor, self.target)
        except StartFailed as failed:
            if isinstance(failed.reason, Shutdown) and isinstance(failed.reason.detail, MachineError):
                raise failed.reason.detail from failed
            raise MachineDown(str(self.target), str(failed)) from failed
        try:
            self._connections[ref] = connection = await ref.ask("connection", timeout=None)
            if reserved:
                connection.room = 0
        except ActorDied as died:
            raise MachineDown(str(self.target), str(died)) from died
        except asyncio.CancelledError:
            ref.exit("kill")  # nobody would know of it
            raise
        watch = asyncio.create_task(self._watch(ref, connection), name=f"watch of ssh to {self.target}")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return ref

    async def _watch(self, ref: Ref[TransportActor], connection: Connection) -> None:
        """Wait for the connection's end, and bring it about when nothing is heard any more."""
        ended = asyncio.ensure_future(ref.wait())
        heard, silent = connection.heard, 0
        while not (await asyncio.wait([ended], timeout=self.target.dead_after / LOOKS))[0]:
            silent = silent + 1 if connection.heard == heard else 0
            heard = connection.heard
            if silent == ASKED:
                ref.tell(_Silent())
            elif silent == LOOKS - 1:
                connection.broken = f"it was silent for {self.target.dead_after:g} s"
                ref.exit(Shutdown(connection.broken))
        self._connections.pop(ref, None)
        self.lost.set()

    def of(self, ref: Ref[TransportActor]) -> Connection | None:
        """The connection of an actor that lives."""
        connection = self._connections.get(ref)
        return connection if connection is not None and connection.alive else None

    @contextlib.asynccontextmanager
    async def lease(self, *, transfer: bool = False) -> AsyncIterator[Connection]:
        """A connection with room for one more command, or for a ``transfer``, which one that hangs does not hold up;
        connects (again) if need be.

        Raises :class:`MachineDown` when that did not succeed for ``patience`` seconds.
        """
        connection = await self.take(transfer=transfer)
        try:
            yield connection
        finally:
            connection.in_use -= 1

    async def take(self, *, transfer: bool = False) -> Connection:
        """As :meth:`lease`, for who gives it back by counting ``in_use`` down."""
        return self._take(transfer) or await self._open(transfer)

    def refused(self, connection: Connection) -> None:
        """The server opened no session on a connection for who has just taken it (:class:`Full`), and gives it back
        after this. Who is on it stays; where nobody is (one session is all that it allows, and that one is SFTP's, or not
        freed yet), it ends, and a new one has room."""
        connection.room = min(connection.room, connection.in_use - 1)
        if connection.room == 0:
            for ref, each in self._connections.items():
                if each is connection:
                    ref.exit(Shutdown("its server opens no session on it"))

    def alive(self) -> bool:
        """Whether any connection is."""
        return any(connection.alive for connection in self._connections.values())

    def _take(self, transfer: bool) -> Connection | None:
        for connection in self._connections.values():
            if connection.in_use < connection.room and connection.alive and not (transfer and connection.stalled):
                connection.in_use += 1
                return connection
        return None

    async def _open(self, transfer: bool) -> Connection:
        seen: list[MachineError] = []
        limit = max(self._patience, self.target.dead_after)  # one attempt at least
        try:
            async with asyncio.timeout(limit):
                return await self._try_to_open(seen, transfer)
        except TimeoutError:
            last = seen[-1] if seen else None
            why = last.why if isinstance(last, MachineDown) else str(last or "it does not answer")
            raise MachineDown(str(self.target), f"{why} (for {limit:g} s)") from last

    async def _try_to_open(self, seen: list[MachineError], transfer: bool) -> Connection:
        """Try until it succeeds; what went wrong on the way is ``seen``."""
        delay = FIRST_DELAY
        while True:
            async with self._opening:
                taken = self._take(transfer)  # freed while we waited
                if taken is not None:
                    return taken
                if self._closing.is_set():
                    raise MachineDown(str(self.target), "it was stopped")
                try:
                    await self.connect()
                    continue
                except (HostKeyRefused, LoginRefused):
                    raise
                except MachineError as error:
                    seen.append(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay * random.uniform(0.5, 1.0))
                raise MachineDown(str(self.target), "it was stopped")
            delay = min(delay * 2, LAST_DELAY)

    async def close(self) -> None:
        """End all connections, and what is being connected."""
        self._closing.set()
        await self._system.close()
        if self._watches:
            await asyncio.wait(self._watches)
