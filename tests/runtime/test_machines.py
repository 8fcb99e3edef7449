"""Machines of a process, through their handles: on this host."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ramure import LocalImage, MachineHandle, agent_process, machine, spawn
from ramure.machines.errors import ExecTimeout, SpawnFailed

pytestmark = pytest.mark.usefixtures("leak_check")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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
