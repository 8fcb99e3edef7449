"""Links and monitors between a process and a process, an agent, a machine; however that ends.

One suite over simulated agents and machines in memory, and over real pi on this host.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ramure import LocalImage, agent, agent_process, done, emit, expose, fail, machine, receive, spawn, trap_exit, wait
from ramure.actors import Down, Exit
from ramure.exits import Crashed
from ramure.machines.base import Image
from ramure.machines.local import LocalMachine
from ramure.testing import InProcessHarness, ScriptedModel, ToolCall, virtual_time

KINDS = ("process", "agent", "machine")
ENDS = ("normal", "crash", "kill")
CASES = [(kind, relation, end) for kind in KINDS for relation in ("link", "monitor") for end in ENDS]

CRASHES = {"process": "ValueError", "agent": "PiExited", "machine": "MachineDown"}


def expected(kind: str, relation: str, end: str) -> str:
    """As in Erlang: a monitor tells every end, a link hands on every reason but ``normal``."""
    reason = {"normal": "normal", "crash": f"crashed: {CRASHES[kind]}", "kill": "killed"}[end]
    if relation == "monitor":
        return f"down: {reason}"
    return "lives on" if end == "normal" else f"ended with it: {reason}"


class World:
    """What the suite needs of where agents and machines are."""

    image: Image
    patience: float

    async def crash_agent(self, made: Any) -> None:
        raise NotImplementedError

    async def crash_machine(self, made: Any) -> None:
        raise NotImplementedError


class Memory(World):
    patience = 20

    def __init__(self) -> None:
        self.harness = InProcessHarness([])
        self.image = self.harness.image

    async def crash_agent(self, made: Any) -> None:
        self.harness.kill(made.address)

    async def crash_machine(self, made: Any) -> None:
        (await made.machine()).fail("power cut")


class Real(World):
    patience = 3

    def __init__(self, image: Image) -> None:
        self.image = image

    async def crash_agent(self, made: Any) -> None:
        await made.send("Kill yourself.")

    async def crash_machine(self, made: Any) -> None:
        host = await made.machine()
        assert isinstance(host, LocalMachine)
        os.kill(host.reaper.pid, signal.SIGKILL)


@agent_process
async def victim() -> None:
    @expose
    def end(how: str) -> None:
        done() if how == "normal" else fail(ValueError("broken"))

    await wait()


@agent_process
async def watcher(kind: str, relation: str) -> str:
    """Stands in the relation to something of its own, and tells what it learns of its end."""
    target: Any
    match kind:
        case "process":
            target = spawn(victim)
            await (target.link() if relation == "link" else target.monitor())
        case "agent":
            target = await agent("worker", restart="temporary")
            target.link() if relation == "link" else target.monitor()
        case _:
            target = await machine()
            target.link() if relation == "link" else target.monitor()
    emit("ready", target)
    down = await receive(Down)
    return f"down: {describe(down.reason)}"


def describe(reason: object) -> str:
    return f"crashed: {type(reason.exception).__name__}" if isinstance(reason, Crashed) else str(reason)


async def end_it(world: World, kind: str, end: str, target: Any) -> None:
    ref = await target.ref() if kind == "process" else target.ref
    match end, kind:
        case "kill", _:
            ref.exit("kill")
        case "normal", "process":
            await target.call("end", how="normal")
        case "normal", "agent":
            await ref.stop()
        case "normal", "machine":
            await target.stop()
        case "crash", "process":
            await target.call("end", how="crash")
        case "crash", "agent":
            await world.crash_agent(target)
        case "crash", "machine":
            await world.crash_machine(target)
    await ref.wait()


async def what_happened(world: World, kind: str, relation: str, end: str) -> str:
    handle = spawn(watcher, kind, relation)
    ready = await handle.events.listen_for("ready", timeout=60)
    ref = await handle.ref()
    await end_it(world, kind, end, ready.data)
    try:
        # That nothing happens is seen in a short time; for what must happen a busy host may take long.
        patience = world.patience if expected(kind, relation, end) == "lives on" else 60
        async with asyncio.timeout(patience):
            return await handle
    except TimeoutError:
        await handle.cancel()
        return "lives on"
    except Exception:
        return f"ended with it: {describe(reason_of(await ref.wait()))}"


def reason_of(reason: object) -> object:
    """A process that a link ends fails because of the signal, which is in its error."""
    assert isinstance(reason, Crashed)
    cause = reason.exception.__cause__
    if cause is not None:
        return Crashed(cause)
    assert str(reason.exception).endswith(": killed")
    return "killed"


@pytest.mark.parametrize(("kind", "relation", "end"), CASES)
def test_in_memory(kind: str, relation: str, end: str) -> None:
    world = Memory()

    @agent_process(image=world.image)
    async def main() -> str:
        return await what_happened(world, kind, relation, end)

    @virtual_time()
    async def go() -> None:
        assert await main() == expected(kind, relation, end)

    go()


@pytest.mark.real_pi
@pytest.mark.timeout(120)
async def test_on_real_pi(ramure_home: Path, tmp_path: Path) -> None:
    """All of them at once, in one run."""

    async with ScriptedModel(lambda conversation: ToolCall("bash", {"command": "kill -9 $PPID"})) as model:
        world = Real(LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))

        @agent_process(image=world.image)
        async def main() -> list[str]:
            return await asyncio.gather(*(what_happened(world, *case) for case in CASES))

        found = await main()
    assert dict(zip(CASES, found, strict=True)) == {case: expected(*case) for case in CASES}


# -- the other direction, and trapping -----------------------------------------------------------------------------


@agent_process
async def sits() -> None:
    await asyncio.sleep(1e6)


@pytest.mark.parametrize("end", ["kill", "crash", "shutdown"])
def test_a_link_works_both_ways(end: str) -> None:
    @agent_process
    async def linked(other: Any) -> None:
        await other.link()
        emit("ready")
        await receive("crash")
        raise ValueError("broken")

    @agent_process
    async def main() -> str:
        other = spawn(sits)
        handle = spawn(linked, other)
        await handle.events.listen_for("ready")
        ref = await handle.ref()
        match end:
            case "kill":
                ref.exit("kill")
            case "crash":
                ref.tell("crash")
            case "shutdown":
                await handle.cancel()
        last = [event async for event in other.events][-1]
        handle.events.snapshot()
        return last.type

    @virtual_time()
    async def go() -> None:
        assert await main() == ("cancelled" if end == "shutdown" else "failed")

    go()


@virtual_time()
async def test_a_process_that_traps_exits_gets_them_as_messages() -> None:
    async def link_and_end(how: str) -> Any:
        other = spawn(victim)
        await other.link()
        if how == "kill":
            (await other.ref()).exit("kill")
        else:
            await other.call("end", how=how)
        return await other.ref()

    seen: list[str] = []

    @agent_process
    async def traps() -> None:
        trap_exit()
        for how in ENDS:
            ref = await link_and_end(how)
            message = await receive(Exit)
            assert message.sender == ref
            seen.append(describe(message.reason))
        trap_exit(False)
        await link_and_end("kill")
        await asyncio.sleep(1e6)

    @agent_process
    async def main() -> None:
        with pytest.raises(Exception, match=r"exit signal from <Process 'victim#\d+' #\d+>: killed"):
            await traps()

    await main()
    assert seen == ["normal", "crashed: ValueError", "killed"]


@virtual_time()
async def test_a_parent_s_shutdown_is_not_trapped() -> None:
    @agent_process
    async def traps() -> None:
        trap_exit()
        emit("ready")
        await asyncio.sleep(1e6)

    streams: list[Any] = []

    @agent_process
    async def main() -> None:
        handle = spawn(traps)
        await handle.events.listen_for("ready")
        streams.append(handle.events)

    await main()
    assert [event.type for event in streams[0].snapshot()] == ["ready", "cancelled"]


@virtual_time()
async def test_an_exit_signal_from_outside_ends_a_process_with_its_reason() -> None:
    @agent_process
    async def main() -> list[str]:
        found = []
        for reason in ("normal", "shutdown", "mine"):
            handle = spawn(sits)
            (await handle.ref()).exit(reason)
            await asyncio.sleep(1)
            found.append(f"{reason}: {handle.events.snapshot()[-1].type if handle.ended else 'lives on'}")
        return found

    assert await main() == ["normal: lives on", "shutdown: cancelled", "mine: failed"]


@virtual_time()
async def test_a_monitor_can_be_cancelled() -> None:
    @agent_process
    async def main() -> None:
        handle = spawn(sits)
        monitor = await handle.monitor()
        monitor.cancel(flush=True)
        await handle.cancel()
        with pytest.raises(TimeoutError):
            await receive(Down, timeout=5)

    await main()


@virtual_time()
async def test_a_monitor_of_what_has_ended_says_noproc() -> None:
    @agent_process
    async def ends() -> None: ...

    @agent_process
    async def main() -> object:
        handle = spawn(ends)
        await handle
        await (await handle.ref()).wait()
        await handle.monitor()
        return (await receive(Down)).reason

    assert await main() == "noproc"
