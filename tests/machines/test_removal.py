"""A machine's directory is removed by its record alone: not what is mounted in it, nor what stands in its place."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ramure.machines.errors import NotRemoved
from ramure.machines.local import LocalImage
from ramure.machines.reaper import leases
from ramure.machines.reaper.directories import make, remove_recorded, remove_tree
from ramure.machines.reaper.removal import identify
from ramure.runtime.run.gc import sweep
from tests.conftest import ROOT
from tests.edges.test_removal import SEPARATE

PROGRAM = """
    import asyncio, os, signal, subprocess, sys
    from pathlib import Path
    from ramure.machines.local import LocalImage
    from ramure.runtime.run.gc import sweep

    kind, end, data = sys.argv[1:4]
    home = Path(os.environ["RAMURE_HOME"])

    async def main():
        match kind:
            case "temporary":
                image = LocalImage()
            case "worktree":
                image = LocalImage(workdir="repository", worktree=True)
            case "copy":
                image = await (await LocalImage(workdir="repository").spawn()).snapshot()
        machine = await image.spawn()
        await machine.exec(f"mkdir -p d/e; touch d/e/f; mount --bind {data} d/e")
        print(machine.workdir, machine.reaper.pid, flush=True)
        if end == "stop":
            await machine.stop()
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""

SWEEP = """
    import os, subprocess, sys, time
    from pathlib import Path
    from ramure.runtime.run.gc import sweep

    kind, end, data = sys.argv[1:4]
    ran = subprocess.run([sys.executable, "-c", os.environ["PROGRAM"], *sys.argv[1:]], capture_output=True, text=True)
    assert ran.stdout, ran.stderr
    workdir, reaper = ran.stdout.split()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{reaper}") and time.monotonic() < deadline:
        time.sleep(0.05)
    runtimes = Path(os.environ["RAMURE_HOME"]) / "runtimes"
    for leftover in sweep(runtimes, wait=True):
        print("first", leftover)
    print("data", sorted(os.listdir(data)))
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file if "/d/e" in line]
    if points:
        subprocess.run(["umount", *points], check=True)
    for leftover in sweep(runtimes, wait=True):
        print("then", leftover)
    print("left", os.path.exists(workdir), [str(each) for each in Path(os.environ["TMPDIR"]).iterdir()])
    sys.stderr.write(ran.stderr)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    mine = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", path], check=True)
    subprocess.run(["git", "-C", path, *mine, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    return path


@pytest.mark.parametrize("namespace", SEPARATE)
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("kind", ["temporary", "worktree", "copy"])
async def test_what_a_command_has_mounted_is_not_emptied(
    kind: str, end: str, namespace: list[str], repository: Path, tmp_path: Path, no_leases: Path
) -> None:
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    data.mkdir()
    temporary.mkdir()
    (data / "precious").write_text("x")
    command = [*namespace, sys.executable, "-c", textwrap.dedent(SWEEP), kind, end, str(data)]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PROGRAM": textwrap.dedent(PROGRAM)}
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=55
    )
    assert "data ['precious']" in done.stdout, done.stdout + done.stderr
    assert (data / "precious").read_text() == "x"
    if kind != "copy":  # an overlay is unmounted, with what is mounted in it
        assert "mounted in" in done.stdout, done.stdout  # `ramure gc` says what is in the way
    assert "left False []" in done.stdout, done.stdout  # once it is unmounted, all goes


async def test_another_directory_in_its_place_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, no_leases: Path
) -> None:
    """Also one that has the inode of the machine's, which is free again at once on most file systems."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    machine = await LocalImage().spawn()
    await machine.exec(
        f'cd / && rm -r "{machine.workdir}" && mkdir "{machine.workdir}" && echo x >"{machine.workdir}/precious"'
    )
    with caplog.at_level(logging.WARNING):
        await machine.stop()
    assert Path(machine.workdir, "precious").read_text() == "x\n"
    assert "it is not the directory that was made here" in caplog.text
    [kept] = sweep(no_leases / "runtimes")
    assert "look at it, and remove it" in (kept.error or "")
    shutil.rmtree(machine.workdir)
    assert [each.error for each in sweep(no_leases / "runtimes")] == [None]


async def test_a_link_in_its_place_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_leases: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    machine = await LocalImage().spawn()
    await machine.exec(f'mv "{machine.workdir}" "{tmp_path}/moved" && ln -s "{tmp_path}/data" "{machine.workdir}"')
    await machine.stop()
    assert (tmp_path / "data" / "precious").exists()
    assert os.path.islink(machine.workdir)
    os.unlink(machine.workdir)
    sweep(no_leases / "runtimes")


def test_a_directory_that_is_not_recorded_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotRemoved, match="not recorded as made by this program"):
        remove_tree(str(tmp_path))
    assert (tmp_path / "file").exists()


def test_what_a_command_took_the_rights_from_is_removed(no_leases: Path) -> None:
    path = make("0123abcd", "a test's directory")
    deep = Path(path, *["x" * 200] * 30)
    here = os.open(path, os.O_RDONLY)
    for _ in range(30):  # longer than any path may be
        os.mkdir("x" * 200, dir_fd=here)
        below = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert len(str(deep)) > 4096
    locked = Path(path, os.fsdecode(b"\xff\n"), "locked")
    locked.mkdir(parents=True)
    (locked / "file").touch()
    for each in (locked, locked.parent, Path(path)):
        each.chmod(0)
    remove_tree(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize("user", [1234] if os.geteuid() == 0 else [])
def test_what_a_command_took_the_rights_from_is_removed_by_users_too(user: int, tmp_path: Path) -> None:
    """Root may do anything: the rights are those of a child that is not root."""
    made = tmp_path / "made"
    (made / "locked" / "deeper").mkdir(parents=True)
    (made / "locked" / "deeper" / "file").touch()
    for each in (made / "locked" / "deeper", made / "locked", made):
        each.chmod(0)
        os.chown(each, user, user)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    os.chown(tmp_path, user, user)
    program = f"""
        import os, sys
        sys.path.insert(0, {str(ROOT / "ramure" / "machines" / "reaper")!r})
        import removal
        os.setgid({user}); os.setuid({user})
        print(removal.remove_tree({str(made)!r}, {identify(str(made))!r}))
    """
    command = [sys.executable, "-I", "-S", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
    assert not made.exists()


def test_one_that_is_written_to_meanwhile_goes_once_that_ends(tmp_path: Path, no_leases: Path) -> None:
    path = make("0123abcd", "a test's directory")
    script = 'n=0; while [ $n -lt 300 ] && mkdir -p "$0/a/$n" 2>/dev/null; do n=$((n + 1)); done'
    said = ""
    with subprocess.Popen(["/bin/sh", "-c", script, path]):
        try:
            remove_tree(path)
        except NotRemoved as kept:
            said = str(kept)
    assert not said or "something still writes into it" in said
    sweep(no_leases / "runtimes")  # what was written behind it is for gc
    shutil.rmtree(path, ignore_errors=True)  # `mkdir -p` makes the directory itself anew, and that is not ours
    for lease in no_leases.glob("machines/*"):
        lease.unlink()


def test_a_lease_is_data(no_leases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in it, no command of it is run, and no directory goes that has not the identity."""
    ran = tmp_path / "ran"
    evil = tmp_path / "docker"
    evil.write_text(f"#!/bin/sh\ntouch {ran}\n")
    evil.chmod(0o755)
    (tmp_path / "precious").mkdir()
    identity = {**identify(str(tmp_path / "precious")), "inode": 1}
    engine = {"name": "0123456789ab", "machine": "", "options": []}
    contents: dict[str, dict[str, Any]] = {
        "argv": {"kind": "directory", "fields": {}, "undo": [["touch", str(ran)]], "paths": [str(tmp_path / "precious")]},
        "path": {"kind": "container", "fields": {**engine, "engine": str(evil)}},
        "option": {"kind": "container", "fields": {**engine, "engine": "docker", "options": ["--config", str(tmp_path)]}},
        "name": {"kind": "container", "fields": {**engine, "engine": "docker", "name": f"x; touch {ran}"}},
        "kind": {"kind": "a kind of tomorrow", "fields": {}},
        "identity": {"kind": "directory", "fields": {"path": str(tmp_path / "precious"), "identity": identity, "machine": "x"}},
    }  # fmt: skip
    (no_leases / "machines").mkdir()
    for name, content in contents.items():
        lease = {"what": name, "run": "", "program": None, **content}
        (no_leases / "machines" / f"{name}.json").write_text(json.dumps(lease))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    removed, refused = leases.remove_stale()
    assert removed == []
    assert {lease.what: why.split(":")[0] for lease, why in refused}.keys() == contents.keys()
    said = {lease.what: why for lease, why in refused}
    assert "does not know" in said["kind"]
    assert "not one of docker, podman, nerdctl" in said["path"]
    assert not ran.exists()
    assert (tmp_path / "precious").is_dir()
    for path in no_leases.glob("machines/*"):
        path.unlink()


def test_a_removal_says_what_is_in_the_way(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    known = identify(str(made))
    made.rmdir()
    assert remove_recorded(str(made), known) is False
    made.touch()
    with pytest.raises(NotRemoved, match="another is in its place; look at it, and remove it yourself"):
        remove_recorded(str(made), known)
