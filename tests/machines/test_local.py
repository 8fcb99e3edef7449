"""What only a machine on this host can show."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ramure.machines.commands import STREAM_AHEAD
from ramure.machines.errors import FileRefused, MachineDown, SpawnFailed
from ramure.machines.local import LocalImage
from ramure.machines.sandbox.image import SandboxImage
from ramure.machines.tmux.local import LocalTmux
from tests.machines.processes import alive

pytestmark = pytest.mark.real


def wait_gone(*pids: int, within: float = 2) -> None:
    deadline = time.monotonic() + within
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_a_temporary_directory_goes_with_its_machine():
    machine = await LocalImage().spawn()
    path = Path(machine.workdir)
    assert path.stat().st_mode & 0o777 == 0o700
    await machine.exec("mkdir -p a/b; touch a/b/c; chmod 0 a/b a")
    await machine.stop()
    assert not path.exists()


@pytest.mark.parametrize("image", [LocalImage, SandboxImage])
async def test_a_stop_that_is_cancelled_goes_to_its_end(image):
    machine = await image().spawn()
    stopping = asyncio.create_task(machine.stop())
    await asyncio.sleep(0)  # it has begun
    stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()
    await machine.stop()
    assert not Path(machine.workdir).exists()
    assert machine.reaper.down.done()


async def test_the_users_directory_is_made_and_stays(tmp_path):
    machine = await LocalImage(workdir=tmp_path / "new/dir").spawn()
    await machine.write_file("kept", b"x")
    await machine.stop()
    assert (tmp_path / "new/dir/kept").read_bytes() == b"x"


async def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpawnFailed, match="file"):
        await LocalImage(workdir=tmp_path / "file/dir").spawn()


async def test_a_killed_keeper_is_noticed_and_its_commands_end():
    machine = await LocalImage().spawn()
    running = asyncio.create_task(machine.exec("echo $$ > pid; exec sleep 1000"))
    while not (pid := (await machine.exec("cat pid 2>/dev/null")).stdout):
        await asyncio.sleep(0.01)
    os.kill(machine.reaper.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert "reaper" in await machine.wait_down()
    with pytest.raises(MachineDown):
        await running
    with pytest.raises(MachineDown):
        await machine.exec("true")
    wait_gone(int(pid))
    await machine.stop()
    assert not Path(machine.workdir).exists()


@pytest.mark.real
def test_nothing_is_left_when_the_program_is_killed(tmp_path):
    program = """
        import asyncio, sys
        from ramure.machines.local import LocalImage
        from ramure.machines.tmux.local import LocalTmux

        async def main():
            machine = await LocalImage().spawn()
            tmux = LocalTmux(machine=machine)
            await tmux.start()
            pane = await tmux.new_session("w1", ["sh", "-c", "trap '' HUP TERM; sleep 1000; true"], cwd="/")
            server = (await tmux._command("display-message", "-p", "#{pid}")).strip()
            await machine.exec("(env -i setsid sleep 1000 >/dev/null 2>&1 & echo $! > pid)")
            pid = (await machine.read_file("pid")).decode().strip()
            print(pane.pid, server, pid, machine.reaper.pid, machine.workdir, tmux.socket, flush=True)
            await machine.exec("sleep 1000")

        asyncio.run(main())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    *pids, workdir, socket = process.stdout.readline().split()
    process.kill()
    process.wait()
    process.stdout.close()
    wait_gone(*map(int, pids), within=5)
    assert not Path(workdir).exists()
    assert not Path(socket).parent.exists()


async def test_a_command_that_was_in_time_is_no_timeout_for_its_slow_reader():
    machine = await LocalImage().spawn()
    size = STREAM_AHEAD + 800_000  # more than is read ahead, and what is left fits in the pipe
    async with machine.stream(f"head -c {size} /dev/zero; exit 7", timeout=5) as stream:
        seen = len((await anext(stream)).data)
        await asyncio.sleep(5.5)  # it has long ended, and the time for that is over
        async for chunk in stream:
            seen += len(chunk.data)
    assert (seen, stream.exit_code) == (size, 7)
    await machine.stop()


async def test_an_other_users_command_does_not_inherit_our_home():
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    machine = await LocalImage().spawn()
    result = await machine.exec("echo $HOME; id -G", user="nobody")
    assert "/root" not in result.stdout
    assert result.stdout.splitlines()[1].split() != ["0"]
    await machine.stop()


async def test_what_is_no_regular_file_is_refused_and_nothing_waits_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "read")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    reader = os.open(tmp_path / "read", os.O_RDONLY | os.O_NONBLOCK)
    machine = await LocalImage(workdir=tmp_path).spawn()
    kinds = {"fifo": "a FIFO", "read": "a FIFO", "socket": "a socket", "/dev/zero": "a device", ".": "a directory"}
    for path, kind in kinds.items():
        async with asyncio.timeout(10):
            with pytest.raises(FileRefused, match=f"{path}: it is {kind}, not a regular file"):
                await machine.read_file(path)
            with pytest.raises(FileRefused, match="(?i)is a directory" if path == "." else f"{path}: it is {kind}"):
                await machine.write_file(path, b"x")
    assert await machine.read_file("/proc/self/comm")
    await machine.stop()
    os.close(reader)
    listener.close()


@pytest.mark.real
async def test_tmux_of_a_machine_ends_with_it(tmp_path):
    machine = await LocalImage().spawn()
    tmux = LocalTmux(str(tmp_path / "tmux"), machine=machine)
    await tmux.start()
    pane = await tmux.new_session("w1", ["sleep", "1000"], cwd="/")
    ending = asyncio.create_task(tmux.wait_end("w1"))
    await asyncio.sleep(0.1)
    await machine.stop()
    assert (await ending).how in ("server_gone", "exited")
    wait_gone(pane.pid)


CROWD = """
import asyncio, os, resource, sys
from ramure.machines.errors import MachineError
from ramure.machines.local import LocalImage

def descriptors():
    return len(os.listdir("/proc/self/fd"))

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    machine = await LocalImage().spawn()
    await machine.exec("true")
    before = descriptors()
    for _ in range(2):
        command = "echo said; sleep 0.2"
        results = await asyncio.gather(*(machine.exec(command) for _ in range(300)), return_exceptions=True)
        failed = [each for each in results if isinstance(each, BaseException)]
        assert all(isinstance(each, MachineError) for each in failed), failed
        print("failed", len(failed), "said", sum(getattr(each, "stdout", "") == "said\\n" for each in results))
    print("leaked", descriptors() - before)
    assert (await machine.exec("echo well")).stdout == "well\\n"
    await machine.stop()

asyncio.run(main())
"""


def test_300_commands_at_once_with_128_descriptors_all_run_and_leak_none() -> None:
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["failed 0 said 300", "failed 0 said 300", "leaked 0"], done.stderr


def test_a_command_that_finds_no_descriptor_is_refused_with_the_remedy_and_leaks_none() -> None:
    program = CROWD.replace("128, 128", "40, 40").replace("sleep 0.2", "sleep 2").replace('"failed", len(failed),', '"failed", failed[:1],').replace(
        "async def main():", "async def main():\n    import ramure.machines.reaper.reaper as reaper; reaper.ROOM_LIMIT = 0.2"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "leaked 0" in done.stdout, done.stderr
    assert "raise the limit (ulimit -n)" in done.stdout
