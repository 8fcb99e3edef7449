"""Spawning that fails half-way: a clear error, and nothing left. (Containers and instances: test_docker.py, test_morph.py.)"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

import pytest

from ramure.machines.errors import CopyFailed, FileRefused, SpawnFailed
from ramure.machines.local import LocalImage
from ramure.machines.sandbox.image import SandboxImage
from tests.disk import can_mount, small_disk
from tests.e2e.kit import until
from tests.machines.sshd import Sshd


@pytest.fixture
def full(tmp_path):
    """A disk without room."""
    if not can_mount(tmp_path):
        pytest.skip("FULL DISKS WERE NOT TESTED: only root can mount a small one")
    with small_disk(tmp_path / "small") as disk:
        yield disk


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def left(disk) -> list[str]:
    return [path.name for path in disk.path.iterdir() if path.name != "filler"]


@pytest.mark.parametrize("image", [LocalImage, SandboxImage])
async def test_a_copy_on_a_full_disk(image, full, tmp_path, monkeypatch):
    machine = await image(workdir=tmp_path / "work").spawn()
    await machine.write_file("file", b"x" * 100_000)
    monkeypatch.setattr(tempfile, "tempdir", str(full.path))
    full.fill()
    before = children()
    for copy in (machine.fork, machine.snapshot):
        with pytest.raises(CopyFailed, match="could not be copied.*No space left on device"):
            await copy()
    assert left(full) == []
    assert children() == before
    await machine.stop()


@pytest.mark.parametrize("image", [LocalImage, SandboxImage])
async def test_a_machine_whose_keeper_does_not_start(image, tmp_path, monkeypatch):
    """Its Python is gone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    monkeypatch.setattr("sys._base_executable", str(tmp_path / "none"), raising=False)
    before = children()
    with pytest.raises(SpawnFailed, match="did not start|could not start"):
        await image().spawn()
    assert list(tmp_path.iterdir()) == []
    assert children() <= before


@pytest.mark.parametrize("image", [LocalImage, SandboxImage])
async def test_a_spawn_that_is_given_up(image, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = children()
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15):
        spawning = asyncio.create_task(image().spawn())
        await asyncio.sleep(delay)
        spawning.cancel()
        await asyncio.wait([spawning])
        if not spawning.cancelled():
            await spawning.result().stop()
        assert children() <= before, delay
        await until(lambda: not list(tmp_path.iterdir()), 30, "nothing of it is left")


@pytest.mark.parametrize("kind", ["local", "sandbox", "ssh"])
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_file_on_a_full_disk_is_not_reported_as_written(kind, size, full, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "local":
                image = LocalImage(workdir=full.path)
            case "sandbox":
                image = SandboxImage(workdir=full.path)
            case "ssh":
                (tmp_path / "sshd").mkdir()
                server = Sshd(tmp_path / "sshd")
                stack.callback(server.stop)
                image = server.image(workdir=str(full.path))
        machine = await image.spawn()
        stack.push_async_callback(machine.stop)
        full.fill()
        with pytest.raises(FileRefused, match="(?i)no space|no room"):
            await machine.write_file("file", b"x" * size)
        full.free()
        await machine.write_file("file", b"x" * 1000)
        assert await machine.read_file("file") == b"x" * 1000


async def test_no_git(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpawnFailed, match="no working directory: .*git"):
        await LocalImage(workdir=tmp_path, worktree=True).spawn()
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.real
async def test_a_host_without_room(full, tmp_path):
    """Directories can be made there, and no files."""
    (tmp_path / "sshd").mkdir()
    server = Sshd(tmp_path / "sshd", environment={"TMPDIR": str(full.path)})
    try:
        full.fill()
        with pytest.raises(SpawnFailed, match="no room"):
            await server.image().spawn()
        assert left(full) == []
        await until(lambda: not server.sessions(), 30, "it is logged out")
        full.free()
        machine = await server.image().spawn()
        assert (await machine.exec("pwd")).stdout.startswith(f"{full.path}/ramure-work-")
        await machine.stop()
        assert left(full) == []
    finally:
        server.stop()


@pytest.mark.real
async def test_a_host_on_which_no_working_directory_can_be_made(own_sshd, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpawnFailed, match="no working directory: .*Not a directory|File exists"):
        await own_sshd.image(workdir=str(tmp_path / "file" / "below")).spawn()
    await until(lambda: not own_sshd.sessions(), 30, "it is logged out")


@pytest.mark.real
async def test_a_spawn_over_ssh_that_is_given_up(tmp_path):
    directory = tmp_path / "t"
    directory.mkdir()
    (tmp_path / "sshd").mkdir()
    server = Sshd(tmp_path / "sshd", environment={"TMPDIR": str(directory)})
    try:
        for delay in (0.0, 0.05, 0.15, 0.25, 0.35):
            spawning = asyncio.create_task(server.image().spawn())
            await asyncio.sleep(delay)
            spawning.cancel()
            await asyncio.wait([spawning])
            if not spawning.cancelled():
                await spawning.result().stop()
            await until(lambda: not (list(directory.iterdir()) or server.sessions()), 30, "nothing of it is left")
    finally:
        server.stop()
