"""What a program holds of a machine that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramure.errors import ActorDied, StopTimeout
from ramure.exits import NORMAL, Crashed, format_exit, is_clean
from ramure.machines.actor import Exec, GetMachine
from ramure.machines.base import AGENT, ExecStream, ForkOf
from ramure.machines.errors import MachineDown, MachineError, MachineStopped
from ramure.places import names_its_line
from ramure.runtime.process.eager import Answer, Eager
from ramure.runtime.process.messages import StartMachine
from ramure.runtime.process.scope import ask_process, current_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ramure.actors import Monitor, Ref
    from ramure.machines.base import Chunk, Image, Machine
    from ramure.runtime.process.record import MachineRecord
    from ramure.types import ExecResult

__all__ = ["MachineHandle"]


class MachineHandle:
    """A machine of the current process, or one that it borrows."""

    def __init__(self, record: MachineRecord) -> None:
        self._record = record

    @names_its_line
    async def machine(self) -> Machine:
        """The machine itself, when it runs. As all that needs it, raises :class:`MachineStopped` after its end, and
        :class:`MachineDown` when it went away."""
        found: Machine = await self._ask(GetMachine())
        return found

    async def _ask(self, request: object) -> Any:
        try:
            return await self._record.ref.ask(request, timeout=None)
        except ActorDied as died:
            raise self._gone(await self._record.ref.wait()) from died  # died may say no more than noproc

    def _gone(self, reason: object) -> MachineError:
        """The error of a machine whose actor has ended for this reason."""
        described = f"{self._record.name} ({self._record.image.describe()})"
        if is_clean(reason):
            return MachineStopped(described)
        error = reason.exception if isinstance(reason, Crashed) else None
        if isinstance(error, MachineDown):  # a new one: several may be told
            return MachineDown(error.machine, error.why)
        return MachineDown(described, format_exit(reason))

    @names_its_line
    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        """Run a shell command on it; see ``Machine.exec``."""
        result: ExecResult = await self._ask(Exec(command, user, timeout))
        return result

    def stream(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecStream:
        """Run a shell command on it and iterate over its output as it comes; see ``Machine.stream``."""
        return ExecStream(self._chunks(command, user, timeout))

    async def _chunks(self, command: str, user: str, timeout: float | None) -> AsyncIterator[Chunk | int]:
        async with (await self.machine()).stream(command, user=user, timeout=timeout) as stream:
            async for chunk in stream:
                yield chunk
            assert stream.exit_code is not None
            yield stream.exit_code

    @names_its_line
    async def fork(self) -> MachineHandle:
        """A second machine in the same state; it belongs to the current process."""
        return MachineHandle(await ask_process("fork()", StartMachine(ForkOf(await self.machine()))))

    @names_its_line
    async def snapshot(self) -> Image:
        """An image of its present state, from which machines and agents can be started."""
        return await (await self.machine()).snapshot()

    @names_its_line
    async def write_file(self, path: str, data: bytes) -> None:
        """Write a file on it."""
        await (await self.machine()).write_file(path, data)

    @names_its_line
    async def read_file(self, path: str) -> bytes:
        """Read a file on it."""
        return await (await self.machine()).read_file(path)

    def stop(self) -> Eager:
        """Stop it; agents on it end with it. Harmless when repeated, and when it went away. ``await`` it to wait until it
        has stopped: this raises the :class:`MachineError` that its own ``stop()`` did, and
        :class:`~ramure.errors.StopTimeout` when that did not end within 60 s; where nobody awaits it, these fail the
        process."""
        process = self._record.process
        act = Eager(process.run.system, current_process() or process, f"stop() of {self._record.name}")
        process.run.system.on_loop(self._begin_stop, act.answer)
        return act

    def _begin_stop(self, answer: Answer) -> None:
        ref = self._record.ref
        if ref.is_alive():
            ref.request_stop().add_done_callback(lambda ended: self._stopped(answer, ended.result()))
        else:
            answer.set_result(None)

    def _stopped(self, answer: Answer, reason: object) -> None:
        error = reason.exception if isinstance(reason, Crashed) else None
        if reason == NORMAL or isinstance(error, MachineDown):
            answer.set_result(None)
        elif isinstance(error, (MachineError, StopTimeout)):
            answer.set_exception(error)
        else:
            answer.set_exception(ActorDied(self._record.ref.label, reason))

    def monitor(self) -> Monitor:
        """Get a ``Down`` (with ``receive``) when it ends."""
        return self._record.ref.monitor()

    def link(self) -> None:
        """Link the current process to this machine: when it ends with a reason other than ``normal``, so does the
        process, unless it traps exits. (A machine outlives whoever is linked to it; it ends with its owner.)"""
        self._record.ref.link()

    @property
    def ref(self) -> Ref[Any]:
        """Its actor's ref."""
        return self._record.ref

    def __repr__(self) -> str:
        return f"<{self._record.name}>"
