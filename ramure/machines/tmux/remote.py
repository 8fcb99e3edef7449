"""The tmux driver that works through a machine's ``exec``: for every machine that is not this host."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from ramure.machines.asking import ask
from ramure.machines.errors import LinkLost
from ramure.machines.tmux.driver import LISTEN, NoSuchSession, Pane, Reply, Tmux

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramure.machines.base import Machine

__all__ = ["ExecTmux"]

FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0
"""Seconds between two attempts while links break; doubled from the first to the last."""

WAIT = r"""
server=$(tmux -S "$0" display-message -p '#{pid}') || exit 1
(while kill -CHLD "$server" 2>/dev/null; do sleep 0.25; done) >/dev/null 2>&1 &
tmux -S "$0" "$@"
code=$?
kill $! 2>/dev/null
exit $code
"""
"""Runs a command of the server at socket $0 that waits, and makes the server look for ended children meanwhile
(``Tmux._reap`` says why)."""


class ExecTmux(Tmux):
    """A tmux server on a machine.

    ``poll`` is None where a command may run on the machine for as long as it likes: then one such command waits
    for the server's word. Where that is dear, or not possible, it is the number of seconds between two looks.
    """

    def __init__(
        self, machine: Machine, socket: str | None = None, *, timeout: float = 30.0, poll: float | None = None
    ) -> None:
        super().__init__(socket or f"/tmp/ramure-tmux-{uuid.uuid4().hex[:12]}/tmux")
        self._machine = machine
        self._timeout = timeout
        self._poll = poll

    async def new_session(
        self, name: str, argv: Sequence[str], *, cwd: str, width: int = 120, height: int = 40
    ) -> Pane:
        try:
            return await super().new_session(name, argv, cwd=cwd, width=width, height=height)
        except LinkLost:  # it may have been made, or not
            try:
                return await self.pane(name)
            except NoSuchSession:
                return await super().new_session(name, argv, cwd=cwd, width=width, height=height)

    async def _tmux(self, *args: str) -> Reply:
        argv = ["tmux", "-u", "-S", self.socket, "-f", "/dev/null", *args]
        return await self._exec(argv, once=args[0] == "new-session")

    async def _shell(self, script: str, *args: str) -> Reply:
        return await self._exec(["/bin/sh", "-c", script, *args])

    async def _listen(self) -> Reply:
        if self._poll is not None:
            await asyncio.sleep(self._poll)
            return Reply(0, "", "")
        try:
            result = await ask(self._machine, ["/bin/sh", "-c", WAIT, self.socket, *LISTEN], limit=None)
        except LinkLost as error:  # the server may be well: the next look connects again, or fails
            return Reply(1, "", str(error))
        return Reply(result.exit_code, result.stdout, result.stderr)

    async def _exec(self, argv: list[str], *, once: bool = False) -> Reply:
        """Run it; again when the link breaks meanwhile, for all that we run but ``new-session`` may be repeated.
        The machine sets the limit: a link that does not come back raises MachineDown."""
        pause = FIRST_PAUSE
        while True:
            try:
                result = await ask(self._machine, argv, limit=self._timeout)
            except LinkLost:
                if once:
                    raise
                await asyncio.sleep(pause)  # one that breaks again at once is not to keep us, and the host, busy
                pause = min(2 * pause, LAST_PAUSE)
                continue
            return Reply(result.exit_code, result.stdout, result.stderr)
