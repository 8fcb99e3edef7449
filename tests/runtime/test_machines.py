"""Machines of a process, through their handles: on this host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ramure import LocalImage, MachineHandle, agent, agent_process, machine, spawn
from ramure.errors import StopTimeout
from ramure.machines.errors import ExecTimeout, MachineDown, MachineError, MachineStopped, SpawnFailed
from ramure.testing import InProcessHarness, virtual_time
from ramure.types import ExecResult
from tests.machines.processes import alive

pytestmark = pytest.mark.usefixtures("leak_check")


async def until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_output_is_streamed_as_it_comes(tmp_path: Path) -> None:
    @agent_process(image=LocalImage(tmp_path))
    async def main() -> list[str]:
        host = await machine()
        seen = []
        async with host.stream("echo one; until [ -e go ]; do sleep 0.02; done; echo two >&2; exit 3") as stream:
            async for chunk in stream:
                seen.append(f"{chunk.source} {chunk.text}")
                (tmp_path / "go").touch()  # so "one" came before the end
            assert stream.exit_code == 3
        return seen

    assert await main() == ["stdout one\n", "stderr two\n"]


async def test_a_stream_that_takes_too_long_and_one_that_is_left_end_their_commands(tmp_path: Path) -> None:
    @agent_process(image=LocalImage(tmp_path))
    async def main() -> None:
        host = await machine()
        with pytest.raises(ExecTimeout):
            async for _ in host.stream("echo $$ >one; sleep 1000", timeout=0.5):
                pass
        async with host.stream("echo $$; sleep 1000") as stream:
            left = int((await anext(stream)).text)
        await until(lambda: not alive(int((tmp_path / "one").read_text())))
        await until(lambda: not alive(left))

    await main()


async def test_a_command_ends_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    @agent_process(image=LocalImage(tmp_path))
    async def main() -> None:
        host = await machine()
        running = asyncio.create_task(host.exec("echo $$ >pid; sleep 1000; true"))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not alive(int((tmp_path / "pid").read_text())))

    await main()


async def test_so_does_a_command_of_an_agent() -> None:
    harness = InProcessHarness([])
    begun, ended = asyncio.Event(), asyncio.Event()

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        there = harness.machines[0]
        answer = there.exec

        async def command(text: str, **options: Any) -> ExecResult:
            if text == "sleep 1000":
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()
            return await answer(text, **options)

        there.exec = command  # type: ignore[assignment, method-assign]
        running = asyncio.create_task(worker.exec("sleep 1000"))
        await begun.wait()
        running.cancel()
        async with asyncio.timeout(60):
            await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await running

    await main()


def calls(host: MachineHandle) -> list[Callable[[], Awaitable[object]]]:
    return [
        host.machine,
        lambda: host.exec("true"),
        lambda: host.read_file("x"),
        lambda: host.write_file("x", b""),
        host.fork,
        host.snapshot,
        lambda: anext(host.stream("true")),
    ]


async def test_a_machine_that_was_stopped_says_so() -> None:
    @agent_process(image=LocalImage())
    async def main() -> None:
        host = await machine()
        running = asyncio.create_task(host.exec("sleep 1000"))
        await host.exec("true")
        await host.stop()
        with pytest.raises(MachineStopped):
            await running
        for call in calls(host):
            with pytest.raises(MachineStopped, match="machine 1 .this host. has been stopped"):
                await call()
        await host.stop()

    await main()


async def test_a_machine_that_went_away_says_so() -> None:
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> None:
        host = await machine()
        harness.machines[0].fail("power cut")
        await host.ref.wait()
        for call in calls(host):
            with pytest.raises(MachineDown, match="power cut"):
                await call()
        await host.stop()

    await main()


async def test_a_program_is_told_that_its_machine_could_not_be_stopped(caplog: pytest.LogCaptureFixture) -> None:
    harness = InProcessHarness([])

    async def stop() -> None:
        raise MachineError("no room for what it did")

    @agent_process(image=harness.image)
    async def main() -> str:
        first, _ = await machine(), await machine()
        for each in harness.machines:
            each.stop = stop  # type: ignore[method-assign]
        with pytest.raises(MachineError, match="no room"):
            await first.stop()
        return "the result"

    assert await main() == "the result"
    assert len([message for message in caplog.messages if "could not be stopped: no room" in message]) == 2


@virtual_time()
async def test_a_machine_whose_stop_hangs_does_not_hold_its_program_up(caplog: pytest.LogCaptureFixture) -> None:
    harness = InProcessHarness([])

    async def stop() -> None:
        await asyncio.Event().wait()

    @agent_process(image=harness.image)
    async def main() -> str:
        first, _ = await machine(), await machine()
        for each in harness.machines:
            each.stop = stop  # type: ignore[method-assign]
        with pytest.raises(StopTimeout, match="did not stop within 60 s"):
            await first.stop()
        return "the result"

    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(600):
        assert await main() == "the result"
    assert asyncio.get_running_loop().time() - began < 130
    told = f"{harness.machines[1].describe()} could not be stopped: "
    assert [message for message in caplog.messages if message.startswith(told)] != []


async def test_a_fork_belongs_to_the_process_that_made_it(tmp_path: Path) -> None:
    made: list[MachineHandle] = []

    @agent_process
    async def forks(origin: MachineHandle) -> bytes:
        fork = await origin.fork()
        made.append(fork)
        await fork.write_file("file", b"changed")
        return await fork.read_file("file")

    @agent_process(image=LocalImage())
    async def main() -> None:
        origin = await machine()
        await origin.write_file("file", b"first")
        assert await spawn(forks, origin) == b"changed"
        assert await origin.read_file("file") == b"first"  # it is there yet, and as it was
        assert not made[0].ref.is_alive()

    await main()


async def test_machines_are_made_from_a_snapshot_through_the_facade() -> None:
    @agent_process(image=LocalImage())
    async def main() -> bytes:
        origin = await machine()
        await origin.write_file("file", b"then")
        image = await origin.snapshot()
        await origin.write_file("file", b"now")
        return await (await machine(image)).read_file("file")

    assert await main() == b"then"


async def test_a_machine_that_cannot_be_made_raises_the_reason_of_its_image(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    @agent_process
    async def main() -> None:
        with pytest.raises(SpawnFailed, match="no working directory"):
            await machine(LocalImage(tmp_path / "file" / "below"))

    await main()
