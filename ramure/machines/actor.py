"""The actor that owns a machine: it makes it, notices its end, and stops it, with what agents had there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ramure.actors import NO_REPLY, Actor, Ask
from ramure.errors import StopTimeout
from ramure.exits import Crashed
from ramure.faults import contained, failure_of
from ramure.machines.base import AGENT, Image, Machine, as_machine
from ramure.machines.errors import MachineDown, MachineError, NotSupported
from ramure.machines.remote_home import RemoteHome
from ramure.masking import get_logger

__all__ = ["Exec", "GetMachine", "GetRemoteHome", "MachineActor", "end_with", "stop_machine"]

logger: logging.Logger = get_logger("ramure.machines")

PING_EVERY = 15.0
"""Seconds between two questions to a machine that does not notice its own end; at two without an answer it is down."""

STOP_LIMIT = 60.0
"""Seconds that a machine's ``stop()`` has; then it is cancelled, its program is told, and goes on without it."""


@dataclass(frozen=True, slots=True)
class GetMachine:
    """Answered with the :class:`Machine` when it runs."""


@dataclass(frozen=True, slots=True)
class GetRemoteHome:
    """Answered with the machine's :class:`~ramure.machines.remote_home.RemoteHome` when it runs."""


@dataclass(frozen=True, slots=True)
class Exec:
    """``exec`` on the machine; answered with its :class:`~ramure.types.ExecResult`. It ends with its asker's patience:
    a cancelled ask ends the command."""

    command: str
    user: str = AGENT
    timeout: float | None = None


def end_with(caller: Ask) -> None:
    """Have the present task, which is to answer ``caller``, cancelled when nobody waits for its answer any more."""
    task = asyncio.current_task()
    assert task is not None

    def over(_: asyncio.Future[Any]) -> None:
        task.cancel()  # without effect on one that has answered
        caller.target.answered(caller)

    caller.future.add_done_callback(over)


class MachineActor(Actor):
    """Owns one machine. Its exit reason is ``Crashed(MachineDown)`` when the machine is seen to be gone."""

    async def init(self, image: Image) -> None:
        self.trap_exit = True
        self.image = image
        self._machine: Machine | None = None
        self._down = False
        self._ready: asyncio.Future[RemoteHome] = asyncio.get_running_loop().create_future()
        self.start_task(self._live(), name="machine")

    @property
    def machine(self) -> Machine | None:
        """The machine, once it runs."""
        return self._machine

    async def _live(self) -> None:
        self._machine = as_machine(await self.image.spawn())
        self._ready.set_result(RemoteHome(self._machine))
        seen = await self._watch(self._machine)
        self._down = True
        self.stop(Crashed(MachineDown(self._machine.describe(), seen)))  # without effect when it ends already

    async def _watch(self, machine: Machine) -> str:
        try:
            return await machine.wait_down()
        except NotSupported:
            return await self._ask_again_and_again(machine)

    async def _ask_again_and_again(self, machine: Machine) -> str:
        missed = False
        while True:
            await asyncio.sleep(PING_EVERY)
            try:
                async with asyncio.timeout(PING_EVERY):
                    await machine.ping()
                missed = False
            except (MachineError, OSError) as error:  # a TimeoutError is an OSError
                if missed:
                    return str(error) or f"it did not answer within {PING_EVERY:g} s"
                missed = True

    def handle_call(self, request: object, caller: Ask) -> Any:
        match request:
            case GetMachine():
                self._when_ready(lambda remote_home: caller.reply(remote_home.machine))
                return NO_REPLY
            case GetRemoteHome():
                self._when_ready(caller.reply)
                return NO_REPLY
            case Exec():
                self.start_task(self._exec(request, caller), name=f"exec {request.command[:60]}")
                return NO_REPLY
            case _:
                return super().handle_call(request, caller)

    def _when_ready(self, tell: Callable[[RemoteHome], object]) -> None:
        self._ready.add_done_callback(lambda ready: None if ready.cancelled() else tell(ready.result()))

    async def _exec(self, request: Exec, caller: Ask) -> None:
        end_with(caller)
        try:
            machine = (await self._ready).machine
            caller.reply(await machine.exec(request.command, user=request.user, timeout=request.timeout))
        except BaseException as error:
            caller.fail(failure_of(error))

    def handle_info(self, message: object) -> None:
        """EXITs of borrowers (agents are linked to their machine) end nothing here."""

    async def terminate(self, reason: object) -> None:
        if self._ready.done() and not self._ready.cancelled():
            remote_home = self._ready.result()
            if self._down:
                remote_home.abandon()  # agents there are not to wait for their end until nothing has answered
                if self._machine is not None and self._machine.here:  # what was started by agents may live on
                    await remote_home.end_trees()
            else:
                await remote_home.close()
        self._ready.cancel()
        if self._machine is not None:
            await stop_machine(self._machine)


async def stop_machine(machine: Machine) -> None:
    """Stop it. What goes wrong is a warning, and raised: what its ``stop()`` raises, and
    :class:`~ramure.errors.StopTimeout` when that does not end within :data:`STOP_LIMIT`."""
    stopping = asyncio.ensure_future(contained(machine.stop()))
    try:
        await asyncio.wait([stopping], timeout=STOP_LIMIT)
    finally:
        given_up = stopping.cancel()
    try:
        if given_up:
            raise StopTimeout(machine.describe(), STOP_LIMIT)
        stopping.result()
    except Exception as error:  # it may have left something: a crash report alone is easily overlooked
        logger.warning("%s could not be stopped: %s", machine.describe(), error)
        raise
