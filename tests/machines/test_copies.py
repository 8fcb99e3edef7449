"""Forks and snapshots of working directories on this host, however they are made: by overlay, reflink or plain copy."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from ramure.machines.errors import CopyFailed, SpawnFailed
from ramure.machines.local import LocalImage
from ramure.machines.reaper import leases
from ramure.machines.sandbox.image import SandboxImage
from ramure.runtime.run.gc import sweep
from tests.conftest import ROOT
from tests.e2e.kit import until


def mounts(below: Path) -> list[str]:
    """The mounts in a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(str(below))]


def can_overlay(directory: Path) -> bool:
    """Whether this system mounts overlays here; found out without ramure's help."""
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir(parents=True)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", "merged"]
    if subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode != 0:
        return False
    subprocess.run(["umount", "merged"], cwd=directory, check=True)
    return True


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A TMPDIR, with what mount options would stumble over in its name; all of it is to be empty at the end."""
    directory = tmp_path / "t:m,p"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert mounts(directory) == []
    assert list(directory.iterdir()) == []


@pytest.fixture
async def machine(request, temporary, tmp_path):
    machine = await getattr(request, "param", LocalImage)(workdir=tmp_path / "work").spawn()
    await machine.exec(
        "mkdir -p d/e; echo 1 >one; echo 2 >two; echo 3 >d/e/three; chmod 750 .; mkfifo pipe; ln -s one link"
    )
    yield machine
    await machine.stop()


async def listing(machine) -> str:
    return (await machine.exec("find . | sort; stat -c '%a %U' . d; cat one two d/e/three 2>&1")).stdout


async def test_how_it_was_made_is_said(machine, tmp_path):
    snapshot = await machine.snapshot()
    spawned = await snapshot.spawn()
    how = "overlay" if can_overlay(tmp_path / "probe") else "reflink" if "reflink" in snapshot.describe() else "copy"
    assert f"made by {how}" in spawned.workspace.note
    if spawned.here:
        assert f"made by {how}" in spawned.describe()
    await spawned.stop()
    await snapshot.remove()


@pytest.mark.parametrize("machine", [LocalImage, SandboxImage], indirect=True)
async def test_a_copy_of_a_copy_has_all_its_changes(machine):
    """What was changed, removed, replaced, renamed; also where a layer only says what is gone."""
    snapshot = await machine.snapshot()
    first = await snapshot.spawn()
    await first.exec("echo changed >one; rm two; rm -r d; mkdir d; echo new >d/new; mv link renamed; chmod 700 .")
    expected = await listing(first)
    assert "changed" in expected
    assert "./d/e" not in expected
    fork = await first.fork()
    second_snapshot = await first.snapshot()
    third = await second_snapshot.spawn()
    assert await listing(fork) == await listing(third) == expected
    await first.exec("rm -r *; echo other >one")
    await fork.exec("echo of the fork >one")
    assert await listing(third) == expected
    assert "of the fork" in await listing(fork)
    assert "changed" not in await listing(first)
    assert "./d/e/three" in await listing(machine)
    for each in (first, fork, third):
        await each.stop()
    await snapshot.remove()
    await second_snapshot.remove()


async def test_what_is_below_stays_until_the_last_machine_on_it_has_stopped(machine):
    snapshot = await machine.snapshot()
    one = await snapshot.spawn()
    two = await one.fork()
    deep = await (await two.snapshot()).spawn()  # the second snapshot is forgotten at once
    await snapshot.remove()
    with pytest.raises(SpawnFailed, match="has been removed"):
        await snapshot.spawn()
    await one.stop()
    await two.stop()
    assert (await deep.exec("cat d/e/three")).stdout == "3\n"
    await deep.stop()


async def test_two_names_of_one_file_stay_two_names_of_one_file(machine):
    await machine.exec("ln one also-one")
    snapshot = await machine.snapshot()
    spawned = await snapshot.spawn()
    fork = await spawned.fork()
    for each in (spawned, fork):
        await each.exec("echo through the other name >>also-one")
        assert "through the other name" in (await each.exec("cat one")).stdout
        await each.stop()
    await snapshot.remove()


async def test_two_names_of_a_file_that_is_new_in_a_copy(machine):
    spawned = await (await machine.snapshot()).spawn()
    await spawned.exec("echo a >a; ln a b")
    again = await (await spawned.snapshot()).spawn()
    await again.exec("echo more >>b")
    assert (await again.exec("cat a one")).stdout == "a\nmore\n1\n"
    await spawned.stop()
    await again.stop()


async def test_somebody_who_looks_around_in_it_does_not_hold_its_end_up(machine):
    spawned = await (await machine.snapshot()).spawn()
    with subprocess.Popen(["sleep", "1000"], cwd=spawned.workdir) as visitor:
        await spawned.stop()
        visitor.kill()


async def test_many_at_once(machine):
    snapshot = await machine.snapshot()
    spawned = await asyncio.gather(*(snapshot.spawn() for _ in range(10)))
    await asyncio.gather(*(each.exec(f"echo {number} >one") for number, each in enumerate(spawned)))
    assert [(await each.exec("cat one")).stdout for each in spawned] == [f"{number}\n" for number in range(10)]
    await asyncio.gather(*(each.stop() for each in spawned))
    await snapshot.remove()


async def test_a_snapshot_that_is_removed_while_machines_are_spawned_from_it(machine):
    """Each is whole, or refused."""
    snapshot = await machine.snapshot()
    spawning = [asyncio.create_task(snapshot.spawn()) for _ in range(4)]
    await asyncio.sleep(0)
    await snapshot.remove()
    for spawned in await asyncio.gather(*spawning, return_exceptions=True):
        if isinstance(spawned, CopyFailed):
            continue
        assert (await spawned.exec("cat one two d/e/three")).stdout == "1\n2\n3\n"
        await spawned.stop()


async def test_a_copy_that_does_not_succeed_leaves_nothing(machine, monkeypatch, tmp_path):
    """There is no room for what is to be written down about it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CopyFailed, match="could not be copied"):
        await machine.snapshot()


PROGRAM = """
    import asyncio, os, signal, sys
    from ramure.machines.local import LocalImage

    async def main():
        origin = await LocalImage(workdir=sys.argv[1]).spawn()
        await origin.write_file("file", b"x")
        snapshot = await origin.snapshot()
        machines = [await snapshot.spawn(), await snapshot.spawn()]
        machines.append(await machines[0].fork())
        await machines[0].exec("setsid sleep 1000 >/dev/null 2>&1 &")
        if sys.argv[2] == "reapers too":
            for each in (origin, *machines):
                os.kill(each.reaper.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


@pytest.mark.parametrize("who", ["the program", "reapers too"])
async def test_what_a_killed_program_left_is_unmounted_and_removed(who, temporary, tmp_path, no_leases):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "work"), who]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    done = await asyncio.to_thread(subprocess.run, command, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    if who == "the program":  # the reapers see to it
        await until(lambda: mounts(temporary) == [], 30, "nothing is mounted")
    elif can_overlay(tmp_path / "probe"):
        assert len(mounts(temporary)) == 3
        assert len(leases.stale()) == 4
    found = await asyncio.to_thread(sweep, no_leases / "runtimes", dry_run=True)
    assert {leftover.kind for leftover in found} == {"machine"}
    found = await asyncio.to_thread(sweep, no_leases / "runtimes")
    assert not [leftover for leftover in found if leftover.error]
    # A reaper that is not through yet is as good.
    await until(lambda: not list(temporary.iterdir()), 30, "nothing is left")
