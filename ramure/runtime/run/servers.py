"""The actors that own a run's shared resources: its gateway, and the tmux server of this host."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ramure.actors import Actor
from ramure.actors.threaded import ThreadedActor
from ramure.descriptors import raise_limit
from ramure.executor import account_for, in_thread
from ramure.machines.local import LocalImage, LocalMachine
from ramure.machines.tmux.driver import Tmux, TmuxServerGone
from ramure.machines.tmux.local import LocalTmux
from ramure.runtime.run.gateway import Gateway
from ramure.runtime.run.scratch import Scratch

__all__ = ["GatewayActor", "TmuxActor", "TmuxThread"]


class GatewayActor(Actor):
    """Owns the WebSocket server that the agents' extensions connect to."""

    async def init(self, gateway: Gateway) -> None:
        self.trap_exit = True
        self.gateway = gateway
        raise_limit()
        await gateway.start()

    def handle_info(self, message: object) -> None:
        """Nothing is expected; strangers' exits are ignored."""

    async def terminate(self, reason: object) -> None:
        await self.gateway.close()


class TmuxThread(ThreadedActor):
    """The thread in which the blocking tmux client runs."""

    def init(self) -> None:
        account_for(threading.current_thread())

    def handle_call(self, request: Any, caller: Any) -> Any:
        function, args = request
        try:
            return function(*args)
        except Exception as error:
            caller.fail(error)


class TmuxActor(Actor):
    """Owns the run's tmux server on this host: starts it when it is first needed, and anew when it has died.

    The server lives below the reaper of a machine of its own, so it ends with this program, even if that is
    killed with SIGKILL; the reaper then also removes ``files``.
    """

    async def init(self, directory: Scratch, files: Sequence[Path] = ()) -> None:
        self.trap_exit = True
        self._directory = directory
        self._files = files
        self._thread = await self.system.options(link=True, label="tmux client").start(TmuxThread)
        self._host: LocalMachine | None = None
        self._tmux: Tmux | None = None

    async def handle_call(self, request: object, caller: Any) -> Any:
        """Any request: the driver of a server that runs."""
        if self._tmux is None or not await self._runs():
            try:
                self._tmux = await self._start()
            except Exception as error:
                self._tmux = None
                caller.fail(error)
                return None
        return self._tmux

    async def _start(self) -> Tmux:
        directory = await in_thread(self._directory.ensure)
        if self._host is None or self._host.reaper.down.done():
            self._host = await LocalImage(workdir=directory).spawn()
            for path in self._files:
                self._host.reaper.own(str(path))
        self._host.reaper.own(str(directory), self._directory.identity)
        tmux = LocalTmux(str(directory / "tmux" / "server"), self._call, machine=self._host)
        await tmux.start()
        return tmux

    async def _runs(self) -> bool:
        assert self._tmux is not None
        try:
            await self._tmux.panes()
        except TmuxServerGone:
            return False
        return True

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        asking = asyncio.ensure_future(self._thread.ask((function, args), timeout=None))
        hold_time: Callable[[asyncio.Future[Any]], None] | None = getattr(asyncio.get_running_loop(), "hold_time", None)
        if hold_time is not None:
            hold_time(asking)
        return await asking

    def handle_info(self, message: object) -> None:
        """EXITs of strangers are ignored; the thread's ends this actor, through its link, at its next call."""

    async def terminate(self, reason: object) -> None:
        if self._tmux is not None:
            await self._tmux.kill_server()
        if self._host is not None:
            await self._host.stop()
