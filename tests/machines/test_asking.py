"""Commands of our own on machines that print more than they are asked for: backends of users', whose exec goes through a
login shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain.remote import Wishes, find_on
from ramure.machines.asking import ask
from ramure.machines.base import AGENT
from ramure.machines.errors import ExecTimeout, MachineError
from ramure.machines.files.framing import Marks, framed, new_token, unframed
from ramure.machines.local import LocalImage, LocalMachine
from ramure.machines.remote_home import RemoteHome
from ramure.machines.scripts import IDENTITY, REMOVE_ALL
from ramure.machines.tmux.remote import ExecTmux
from ramure.types import ExecResult
from tests.agents.toolchain import stubs

NOISES = [
    "echo Welcome",
    "printf Welcome",
    "seq 5",
    "for i in 1 2 3 4; do echo {project}; done",
    "trap 'echo {project}' EXIT",
    "set -x",
]


class Noisy(LocalMachine):
    """Its shell runs ``rc`` before each command, as a login shell does."""

    rc = ""

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        return await super().exec(f"{self.rc}\n{command}", user=user, timeout=timeout)


@pytest.fixture(params=NOISES)
async def machine(request, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "work.txt").write_text("a year of work")
    machine = await LocalImage().spawn()
    machine.__class__ = Noisy
    machine.rc = request.param.format(project=project)
    yield machine
    await machine.stop()
    assert (project / "work.txt").exists()


async def test_an_answer_is_what_the_command_said(machine):
    assert await ask(machine, ["printf", "%s\n", "a", "b c", "ü\n", ""]) == ExecResult("a\nb c\nü\n\n\n", "", 0)
    failed = await ask(machine, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (failed.stdout, failed.exit_code) == ("out\n", 3)
    assert failed.stderr == "err\n"


async def test_what_takes_too_long_is_ended(machine):
    with pytest.raises(ExecTimeout):
        await ask(machine, ["sleep", "1000"], limit=1.0)


@pytest.mark.real
async def test_quarters_and_tmux_in_them(machine):
    remote_home = RemoteHome(machine)
    room = await remote_home.room()
    assert room.workdir == machine.workdir
    assert os.path.isdir(room.directory)
    pane = await room.tmux.new_session("name", ["sh", "-c", "sleep 0.2; exit 7"], cwd="/")
    assert pane.session == "name"
    assert (await room.tmux.wait_end("name")).exit_code == 7
    await remote_home.close()
    assert not os.path.exists(room.directory)


@pytest.mark.real
async def test_quarters_that_are_another_directory_by_now_stay(machine, tmp_path, caplog):
    remote_home = RemoteHome(machine)
    room = await remote_home.room()
    os.rename(room.directory, f"{room.directory}-elsewhere")
    shutil.copytree(tmp_path / "project", room.directory)
    await remote_home.close()
    assert Path(room.directory, "work.txt").exists()
    assert "not the directory that was made there" in caplog.text
    subprocess.run(["tmux", "-S", f"{room.directory}-elsewhere/tmux", "kill-server"], capture_output=True, check=False)
    for each in (room.directory, f"{room.directory}-elsewhere"):
        shutil.rmtree(each)


async def test_looking_for_node_and_pi(machine, tmp_path, monkeypatch):
    stubs.script(tmp_path / "bin" / "node", "printf 'v22.19.0\\t%s\\n' \"$0\"")
    stubs.pi(tmp_path / "bin", "0.87.1")
    machine.rc += f"\nexport PATH={tmp_path}/bin:$PATH RAMURE_HOME={tmp_path}/none"
    found = await find_on(machine, Wishes())
    assert str(getattr(found, "pi_version", found)) == "0.87.1"


async def test_a_machine_that_runs_something_else_is_told():
    class Else(LocalMachine):
        async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
            return ExecResult("This account is not available.\n", "", 0)

    machine = await LocalImage().spawn()
    machine.__class__ = Else
    with pytest.raises(MachineError, match="did not run a command of ours, and said 'This account"):
        await ask(machine, ["true"])
    await machine.stop()


@pytest.mark.real
async def test_tmux_through_one(machine):
    tmux = ExecTmux(machine)
    await tmux.start()
    await tmux.new_session("a", ["sleep", "1000"], cwd="/")
    assert [pane.session for pane in await tmux.panes()] == ["a"]
    await tmux.kill_server()


class TestMarks:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_output_is_found_wherever_the_pieces_end(self, size):
        token, said = new_token(), []
        marks = Marks(token, lambda source, data: said.append(data))
        mark = b"\x1e" + token.encode() + b" "
        content = b"\x1e" + mark[:-3] + bytes(range(256)) + mark + b"else\n" + b"\x1e" * 50
        stream = (
            b"noise\x1e\n"
            + mark[:5]
            + mark
            + b"start 12\n"
            + content
            + mark
            + b"end 3\n"
            + b"later"
            + mark
            + b"end 4\n"
        )
        for start in range(0, len(stream), size):
            marks.feed("stdout", stream[start : start + size])
        assert b"".join(said) == content
        assert (marks.leader, marks.code, marks.over) == (12, 3, False)
        assert marks.messages.startswith("noise")

    def test_no_token_is_drawn_twice(self):
        tokens = [new_token() for _ in range(1000)]
        assert len(set(tokens)) == 1000
        assert all(len(token) == 32 for token in tokens)

    def test_a_mark_of_another_command_is_output(self):
        one, other = new_token(), new_token()
        done = subprocess.run(framed(["printf", f"\\036{other} end 0\\nrest"], one), capture_output=True, check=True)
        marks, stdout, _ = unframed(one, done.stdout, done.stderr)
        assert (stdout, marks.code) == (f"\x1e{other} end 0\nrest".encode(), 0)


class TestRemoval:
    """The script by itself, with another path, another device, another boot."""

    @staticmethod
    def identity(directory: Path) -> str:
        return subprocess.run(
            ["/bin/sh", "-c", f'{IDENTITY}\nidentity "$1"', "sh", directory], capture_output=True, text=True, check=True
        ).stdout.strip()

    @staticmethod
    def remove(directory: Path, identity: str) -> str:
        words = ["/bin/sh", "-c", REMOVE_ALL, "sh", str(directory), identity]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    @pytest.fixture(params=["plain", "with space", "with\ttab", "back\\slash", "-rf", "ünï", "$HOME"])
    def directory(self, request, tmp_path):
        directory = tmp_path / request.param
        (directory / "deep" / "er").mkdir(parents=True)
        (directory / "deep" / "file").write_text("x")
        return directory

    def test_the_same_directory_is_removed(self, directory):
        assert self.remove(directory, self.identity(directory)) == ""
        assert not directory.exists()

    def test_another_inode_stays(self, directory):
        device, inode, boot = self.identity(directory).split(":")
        assert self.remove(directory, f"{device}:{int(inode) + 1}:{boot}").startswith("stays\t")
        assert (directory / "deep" / "file").exists()

    def test_another_device_within_one_boot_stays(self, directory):
        device, inode, boot = self.identity(directory).split(":")
        assert self.remove(directory, f"{int(device) + 1}:{inode}:{boot}").startswith("stays\t")
        assert directory.exists()

    def test_a_device_has_another_number_after_a_reboot(self, directory):
        device, inode, _ = self.identity(directory).split(":")
        assert self.remove(directory, f"{int(device) + 1}:{inode}:another-boot") == ""
        assert not directory.exists()

    @pytest.mark.parametrize("identity", ["", ":", "::", "x", "0:0:0"])
    def test_without_an_identity_it_stays(self, directory, identity):
        assert self.remove(directory, identity).startswith("stays\t")
        assert directory.exists()

    def test_what_is_gone_is_no_trouble(self, tmp_path):
        assert self.remove(tmp_path / "gone", "1:2:3") == ""
