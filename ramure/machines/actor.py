"""The actor that owns a machine: it makes it, notices its end, and stops it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ramure.actors import NO_REPLY, Actor, Ask
from ramure.exits import Crashed
from ramure.machines.base import AGENT, Image, Machine
from ramure.machines.errors import MachineDown, NotSupported

__all__ = ["Exec", "GetMachine", "MachineActor"]


@dataclass(frozen=True, slots=True)
class GetMachine:
    """Answered with the :class:`Machine` when it runs."""


@dataclass(frozen=True, slots=True)
class Exec:
    """``exec`` on the machine; answered with its :class:`~ramure.types.ExecResult`."""

    command: str
    user: str = AGENT
    timeout: float | None = None


class MachineActor(Actor):
    """Owns one machine. Its exit reason is ``Crashed(MachineDown)`` when the machine is seen to be gone."""

    async def init(self, image: Image | None, machine: Machine | None = None) -> None:
        self.trap_exit = True
        self.image = image
        self._machine = machine
        self._ready: asyncio.Future[Machine] = asyncio.get_running_loop().create_future()
        self.start_task(self._live(), name="machine")

    async def _live(self) -> None:
        if self._machine is None:
            assert self.image is not None
            self._machine = await self.image.spawn()
        self._ready.set_result(self._machine)
        await self._watch(self._machine)

    async def _watch(self, machine: Machine) -> None:
        try:
            seen = await machine.wait_down()
        except NotSupported:
            return
        self.stop(Crashed(MachineDown(machine.describe(), seen)))  # without effect when it ends already

    def handle_call(self, request: object, caller: Ask) -> Any:
        match request:
            case GetMachine():
                self._ready.add_done_callback(lambda ready: None if ready.cancelled() else caller.reply(ready.result()))
                return NO_REPLY
            case Exec():
                self.start_task(self._exec(request, caller), name=f"exec {request.command[:60]}")
                return NO_REPLY
            case _:
                return super().handle_call(request, caller)

    async def _exec(self, request: Exec, caller: Ask) -> None:
        try:
            machine = await self._ready
            caller.reply(await machine.exec(request.command, user=request.user, timeout=request.timeout))
        except Exception as error:
            caller.fail(error)

    def handle_info(self, message: object) -> None:
        """EXITs of borrowers (agents are linked to their machine) end nothing here."""

    async def terminate(self, reason: object) -> None:
        self._ready.cancel()
        if self._machine is not None:
            await self._machine.stop()
