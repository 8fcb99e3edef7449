"""What an agent needs of the run around it. The runtime provides it; tests can provide their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from ramure.actors import Ref
    from ramure.agents.pi.toolchain import Toolchain
    from ramure.machines.base import Machine
    from ramure.machines.tmux.driver import Tmux

__all__ = ["Connection", "Services"]


class Connection(Protocol):
    """The way to one extension that is connected now."""

    @property
    def stale(self) -> bool:
        """True when it was ended since the extension gave no sign of life."""

    def silent_for(self) -> float:
        """Seconds since the extension's last sign of life."""

    def send(self, frame: Any) -> bool: ...

    def taken(self) -> None:
        """One more of its frames has been dealt with: no more than a few wait for that at a time."""

    def spend(self, seconds: float) -> None:
        """So much of the event loop's time went to it beside the reading of its frames: it counts to its share."""

    def close(self, code: int = 1000, reason: str = "") -> None: ...


class Services(Protocol):
    """The run, as its agents see it."""

    @property
    def run_id(self) -> str: ...

    @property
    def scratch(self) -> Path:
        """A private directory of the run on this host."""

    def expect(self, token: str, sink: Any, stale_after: float) -> None:
        """Let in the extension that has ``token``, and tell ``sink`` (see the gateway's Sink). A connection that is
        silent for ``stale_after`` seconds is ended, and is ``stale`` then."""

    def forget(self, token: str) -> None:
        """Undo :meth:`expect`; closes the connection."""

    async def url_for(self, machine: Machine) -> str:
        """Where an extension on ``machine`` reaches the gateway."""

    async def tmux_for(self, machine: Machine) -> Tmux:
        """A running tmux server of the run's for ``machine``, which is on this host."""

    def toolchain(self) -> Toolchain:
        """The Node, pi and tmux of this host. Blocks for some milliseconds."""

    def session_file(self, address: str) -> Path:
        """Where the agent's pi keeps its conversation."""

    def append(self, address: str, line: bytes, reply_to: Ref[Any] | None, token: object) -> bool:
        """Append a line to the agent's log. With ``reply_to``: True if it is written; else ``token`` is sent there when it
        is. Without, nobody waits for it, and it may be written a little later, with others."""

    def log(self, type: str, data: dict[str, Any]) -> None:
        """Append an entry to the run's log."""

    def death_is_told(self, agent: Ref[Any], reason: object) -> None:
        """The agent is about to end with ``reason``, of which it has written the crash report itself."""

    def disk(self, address: str, report: dict[str, Any], machine: Machine | None) -> None:
        """The agent's pi, on ``machine``, has no room for its session file, or has room again (a report of the kind ``disk``)."""
