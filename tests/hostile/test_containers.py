"""A turned agent in a container: ways out, each refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramure.machines.docker.image import DockerImage
from ramure.machines.errors import MachineError
from tests.machines.engine import IMAGE, docker_engine

pytestmark = [pytest.mark.real, pytest.mark.edges, pytest.mark.timeout(300)]

SECRET = "s3cret-of-the-host"

WAYS = {
    "a file of the host": "cat {top}/secret",
    "the host's root, through process 1": "cat /proc/1/root{top}/secret",
    "the host's root, through the victim": "cat /proc/{victim}/root{top}/secret",
    "environments of processes": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep {secret}",
    "the host's processes": "ls /proc | grep -x {victim} && echo {secret}",
    "killing the victim": "kill -9 {victim}; kill -9 -1",
    "the engine's socket": "for each in /var/run/docker.sock /run/docker.sock {engine}/socket; do test -e $each && echo {secret}; done",
    "mounting the disk": "mkdir /m; mount /dev/vda /m && cat /m/{top}/secret",
    "a device of its own": "mknod /disk b 254 0 && head -c 1 /disk && echo {secret}",
    "kernel settings": "echo {secret} > /proc/sys/kernel/core_pattern && echo {secret}",
    "sysrq": "echo h > /proc/sysrq-trigger && echo {secret}",
    "the host's namespaces": "nsenter -t 1 -m cat {top}/secret; unshare -m sh -c 'mount -t proc proc /proc && echo {secret}'",
}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """What is to be stolen or broken: a file, and a process."""
    (tmp_path / "secret").write_text(SECRET)
    victim = subprocess.Popen(["sleep", "1000"], env={**os.environ, "VICTIM": SECRET})
    yield tmp_path, victim.pid
    assert victim.poll() is None
    victim.kill()
    victim.wait()


@pytest.mark.parametrize("way", WAYS)
async def test_a_container_has_no_way_out(way: str, host: tuple[Path, int]) -> None:
    top, victim = host
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    engine = docker_engine()
    machine = await DockerImage(IMAGE, pull="never", engine=engine.command).spawn()
    try:
        command = WAYS[way].format(top=top, secret=SECRET, victim=victim, engine=engine.directory)
        said = (await machine.exec(command, timeout=30)).stdout
    except MachineError:
        said = ""  # it has ended its own container
    finally:
        await machine.stop()
    assert SECRET not in said
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


async def test_a_container_takes_no_more_than_it_was_given() -> None:
    machine = await DockerImage(IMAGE, pull="never", engine=docker_engine().command, pids=50).spawn()
    try:
        await asyncio.gather(
            machine.exec("i=0; while [ $i -lt 300 ]; do sleep 20 & i=$((i+1)); done", timeout=10),
            return_exceptions=True,
        )
        mine = subprocess.run(["pgrep", "-c", "-f", "^sleep 20$"], capture_output=True, text=True, check=False).stdout
        assert int(mine) < 50
    finally:
        await machine.stop()
