"""The file tools of connected agents: one that was turned reaches the shared folders, and nothing else of the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ramure import OutsideFolder, UsageError, agent, agent_process, connect
from ramure.agents.tools import builtin
from ramure.agents.tools.builtin import FILE_LIMIT, Peer, builtin_tools
from ramure.machines.base import Image, Machine
from ramure.machines.local import LocalImage
from ramure.machines.sandbox.image import SandboxImage
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual
from tests.machines.conftest import documented, sshd

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----"

BACKENDS: dict[str, Callable[[Path], Image]] = {
    "local": lambda directory: LocalImage(workdir=directory),
    "sandbox": lambda directory: SandboxImage(workdir=directory),
    "ssh": lambda directory: sshd().image(workdir=str(directory)),
    "documented": documented,
}


class Answers:
    """Stands for an actor: answers every question alike."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def ask(self, request: object, *, timeout: float | None) -> Any:
        return self.answer


@dataclass
class World:
    """``mine`` is the turned agent's machine, ``theirs`` its peer's; ``home`` has what is to stay as it is."""

    mine: Machine
    theirs: Machine
    here: Path
    there: Path
    home: Path

    async def call(self, tool: str, files: str = "workdir", **arguments: str) -> str:
        peer = Peer("two", "two", Answers(None), Answers(self.theirs), True, files)  # type: ignore[arg-type]
        [found] = [each for each in builtin_tools("one", lambda: self.mine, {"two": peer}) if each.name == tool]
        who = {"to": "two"} if tool == "send_file" else {"source": "two"}
        async with asyncio.timeout(60):
            return (await found.call({**who, **arguments})).text


@pytest.fixture(params=BACKENDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    for name in ("mine", "theirs", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "id_rsa").write_bytes(SECRET)
    (tmp_path / "home" / ".bashrc").write_bytes(b"echo hello\n")
    (tmp_path / "mine" / "evil").write_bytes(b"echo PWNED\n")
    (tmp_path / "theirs" / "plan.txt").write_bytes(b"the plan")
    mine = await LocalImage(workdir=tmp_path / "mine").spawn()
    theirs = await BACKENDS[request.param](tmp_path / "theirs").spawn()
    try:
        yield World(mine, theirs, tmp_path / "mine", tmp_path / "theirs", tmp_path / "home")
    finally:
        await mine.stop()
        await theirs.stop()


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path_factory.mktemp("ramure")))


def prepare(world: World) -> None:
    """What an agent can put into its peer's folder where it can write there by another way."""
    (world.there / "sub").mkdir()
    (world.there / "link").symlink_to(world.home / "id_rsa")
    (world.there / "relative link").symlink_to("../home/id_rsa")
    (world.there / "bashrc").symlink_to(world.home / ".bashrc")
    (world.there / "new").symlink_to(world.home / "authorized_keys")
    (world.there / "directory").symlink_to(world.home)
    (world.there / "sub" / "up").symlink_to("../..")
    (world.there / "chain").symlink_to("sub/up/home")
    (world.there / "root").symlink_to("/proc/self/root")
    (world.there / "cwd").symlink_to("/proc/self/cwd/../home")


OUTSIDE = [
    "{home}/id_rsa", "../home/id_rsa", "./sub/../../home/id_rsa", "{there}/../home/id_rsa", "{there}/sub/../../home/id_rsa",
    "link", "relative link", "{there}/link", "directory/id_rsa", "sub/up/home/id_rsa", "chain/id_rsa", "root{home}/id_rsa",
    "/proc/self/root{home}/id_rsa", "cwd/id_rsa", "/proc/self/environ", "/dev/zero", "/etc/passwd", "//etc/passwd",
    "{there}-not/../home/id_rsa", "../theirs/../home/id_rsa",
]  # fmt: skip


async def test_nothing_outside_the_folder_is_downloaded(world: World) -> None:
    prepare(world)
    (world.home.parent / "theirs-not").mkdir()
    for pattern in OUTSIDE:
        path = pattern.format(home=world.home, there=world.there)
        with pytest.raises(Exception, match="outside|no such file|Not a directory"):
            await world.call("download_file", path=path, to_path="got")
        assert not (world.here / "got").exists(), path


async def test_nothing_outside_the_folder_is_written(world: World) -> None:
    prepare(world)
    before = {path: path.read_bytes() for path in world.home.iterdir()}
    for pattern in (
        "{home}/.bashrc", "{home}/authorized_keys", "../home/.bashrc", "bashrc", "{there}/bashrc", "new", "directory/.bashrc",
        "directory/new/file", "sub/up/home/.bashrc", "chain/new", "root{home}/.bashrc", "/proc/self/cwd/../home/.bashrc",
        "../fresh/file", "sub/up/fresh/file",
    ):  # fmt: skip
        path = pattern.format(home=world.home, there=world.there)
        with pytest.raises(Exception, match="outside|no such file|Not a directory"):
            await world.call("send_file", path="evil", to_path=path)
        assert {path: path.read_bytes() for path in world.home.iterdir()} == before, path
        assert not (world.home.parent / "fresh").exists(), path


async def test_what_is_downloaded_lands_in_the_receivers_folder_alone(world: World) -> None:
    (world.here / "link").symlink_to(world.home / ".bashrc")
    (world.here / "directory").symlink_to(world.home)
    for path in (f"{world.home}/.bashrc", "../home/.bashrc", "link", "directory/.bashrc"):
        with pytest.raises(Exception, match="outside .*, the folder of your machine .*files="):
            await world.call("download_file", path="plan.txt", to_path=path)
    with pytest.raises(Exception, match="outside .*, the folder of your machine"):
        await world.call("send_file", path=f"{world.home}/id_rsa", to_path="got")
    assert (world.home / ".bashrc").read_bytes() == b"echo hello\n"
    assert not (world.there / "got").exists()


async def test_the_refusal_names_the_folder_and_the_option(world: World) -> None:
    with pytest.raises(Exception, match="outside") as told:
        await world.call("download_file", path=f"{world.home}/id_rsa")
    assert f"{world.home}/id_rsa: it leads outside {world.there}, the folder of the machine of 'two'" in str(told.value)
    assert 'connect(..., files="machine")' in str(told.value)


async def test_paths_inside_work_and_links_that_stay_inside_too(world: World) -> None:
    (world.there / "sub" / "deep").mkdir(parents=True)
    (world.there / "sub" / "deep" / "file").write_bytes(bytes(range(256)))
    (world.there / "absolute").symlink_to(world.there / "sub")
    (world.there / "relative").symlink_to("sub/deep/../deep/file")
    (world.there / "sub" / "up").symlink_to("..")
    os.link(world.there / "plan.txt", world.there / "hard")  # it is inside: by that name
    for path, data in (
        ("plan.txt", b"the plan"), ("./plan.txt", b"the plan"), (f"{world.there}/plan.txt", b"the plan"), ("hard", b"the plan"),
        ("sub/../plan.txt", b"the plan"), ("sub/up/plan.txt", b"the plan"), (f"{world.there}//sub/./up/plan.txt", b"the plan"),
        ("relative", bytes(range(256))), ("absolute/deep/file", bytes(range(256))),
    ):  # fmt: skip
        await world.call("download_file", path=path, to_path="got")
        assert (world.here / "got").read_bytes() == data, path
    for path in ("new", "made/of/directories", f"{world.there}/full", "absolute/through", "-n", "with 'quote\n", "ü"):
        await world.call("send_file", path="evil", to_path=path)
        assert (world.there / path).read_bytes() == b"echo PWNED\n"
    assert (world.there / "sub" / "through").exists()
    (world.there / "plan.txt").chmod(0o640)
    said = await world.call("send_file", path="evil", to_path="plan.txt")
    assert said == "Sent to two as plan.txt (11 bytes)."
    assert ((world.there / "plan.txt").stat().st_mode & 0o777, (world.there / "plan.txt").read_bytes()) == (
        0o640,
        b"echo PWNED\n",
    )
    assert not list(world.there.rglob(".ramure-*"))


async def test_what_is_no_regular_file_is_refused_and_waits_for_nobody(world: World) -> None:
    os.mkfifo(world.there / "fifo")
    (world.there / "to fifo").symlink_to("fifo")
    (world.there / "loop").symlink_to("loop")
    (world.there / "dir").mkdir()
    odd = ["fifo", "to fifo", "dir", ".", "dir/..", "loop"]
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(world.there):
        bound.bind("socket")
        odd.append("socket")
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # in a container
            os.mknod(world.there / "device", 0o020666, os.makedev(1, 5))
            odd.append("device")
    for path in odd:
        with pytest.raises(OSError, match="not a regular file|symbolic links"):
            await world.call("download_file", path=path, to_path="got")
        with pytest.raises(OSError, match="not a regular file|symbolic links"):
            await world.call("send_file", path="evil", to_path=path)
    assert not (world.here / "got").exists()


async def test_a_very_large_file_is_not_read(world: World) -> None:
    with open(world.there / "large", "wb") as file:
        file.truncate(FILE_LIMIT + 1)
    with pytest.raises(OSError, match=f"it has {FILE_LIMIT + 1} bytes; at most {FILE_LIMIT} can be passed on"):
        await world.call("download_file", path="large")


async def test_a_link_that_is_swapped_all_the_time_leads_nowhere(world: World) -> None:
    """A thread makes of one name a file, a link out, a directory, and a link to a directory outside."""
    over, target = threading.Event(), world.home
    (world.there / "real").mkdir()
    (world.there / "real" / "id_rsa").write_bytes(b"harmless")
    (world.there / "real" / ".bashrc").write_bytes(b"harmless")
    before = {path: path.read_bytes() for path in target.iterdir()}

    def swap() -> None:
        new = world.there / "next"
        while not over.is_set():
            with contextlib.suppress(OSError):
                new.symlink_to(target / "id_rsa")
                os.replace(new, world.there / "file")
                new.write_bytes(b"harmless")
                os.replace(new, world.there / "file")
                new.symlink_to(target)
                os.replace(new, world.there / "directory")
                new.symlink_to("real")
                os.replace(new, world.there / "directory")
            new.unlink(missing_ok=True)

    thread = threading.Thread(target=swap)
    thread.start()
    came = 0
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for path in ("file", "directory/id_rsa"):
                with contextlib.suppress(Exception):
                    await world.call("download_file", path=path, to_path="got")
                    came += 1
                    assert_harmless(world.here / "got")
            for path in ("directory/.bashrc", "directory/authorized_keys"):
                with contextlib.suppress(Exception):
                    await world.call("send_file", path="evil", to_path=path)
    finally:
        over.set()
        thread.join()
    assert came
    if (world.here / "got").exists():
        assert_harmless(world.here / "got")
    assert {path: path.read_bytes() for path in target.iterdir()} == before


def assert_harmless(path: Path) -> None:
    if SECRET in path.read_bytes():
        pytest.fail(f"{path} has the secret")  # no Exception: nothing suppresses it


async def test_a_folder_of_its_own_is_the_only_one(world: World) -> None:
    prepare(world)
    for where in (world.here, world.there):
        (where / "shared").mkdir()
    (world.there / "shared" / "out").symlink_to("../plan.txt")
    (world.there / "shared" / "given").write_bytes(b"given")
    (world.here / "shared" / "evil").write_bytes(b"echo PWNED\n")
    said = await world.call("download_file", "./shared", path="given")
    assert said == "Downloaded from two as ./shared/given (5 bytes)."
    assert (world.here / "shared" / "given").read_bytes() == b"given"
    await world.call("send_file", "./shared", path="evil", to_path="a/b")
    assert (world.there / "shared" / "a" / "b").read_bytes() == b"echo PWNED\n"
    for path in ("../plan.txt", "out", f"{world.there}/plan.txt", "/etc/passwd"):
        with pytest.raises(Exception, match="outside"):
            await world.call("download_file", "./shared", path=path)


async def test_a_folder_that_was_made_a_link_leads_nowhere(world: World) -> None:
    (world.there / "shared").symlink_to(world.home)
    (world.here / "shared").mkdir()
    (world.here / "shared" / "evil").write_bytes(b"echo PWNED\n")
    for folder in ("./shared", f"{world.there}/shared"):
        with pytest.raises(OSError, match="outside|no such file"):
            await world.theirs.read_within(folder, "id_rsa", 100)
        with pytest.raises(OSError, match="outside|no such file"):
            await world.theirs.write_within(folder, ".bashrc", b"echo PWNED\n")
    assert (world.home / ".bashrc").read_bytes() == b"echo hello\n"


async def test_a_working_directory_that_was_swapped_is_told(world: World) -> None:
    if type(world.theirs).__name__ != "LocalMachine":
        return  # elsewhere the commands themselves are in that directory
    world.there.rename(world.there.with_name("moved"))
    world.there.symlink_to(world.home)
    with pytest.raises(Exception, match="working directory"):
        await world.theirs.read_within(".", "id_rsa", 100)


async def test_with_the_whole_machine_any_path_works_and_with_none_no_path_does(world: World) -> None:
    outside = world.home / "id_rsa"
    if type(world.theirs).__name__ != "SandboxMachine":  # it does not see it
        await world.call("download_file", "machine", path=str(outside), to_path="got")
        assert (world.here / "got").read_bytes() == SECRET
    peer = Peer("two", "two", Answers(None), Answers(world.theirs), True, "none")  # type: ignore[arg-type]
    both = {"two": peer, "three": Peer("three", "three", Answers(None), Answers(world.theirs), True)}  # type: ignore[arg-type]
    [send] = [tool for tool in builtin_tools("one", lambda: world.mine, both) if tool.name == "send_file"]
    with pytest.raises(Exception, match='passes messages, no files.*files="none"'):
        await send.call({"to": "two", "path": "evil"})
    await send.call({"to": "three", "path": "evil"})
    assert [tool.name for tool in builtin_tools("one", lambda: world.mine, {"two": peer})] == ["message"]


async def test_a_temporary_directory_that_is_no_full_path_is_not_used(tmp_path: Path) -> None:
    machine = await SandboxImage(workdir=tmp_path, env={"TMPDIR": "sub"}).spawn()
    try:
        (tmp_path / "sub").mkdir()
        await machine.write_within(".", "sub/file", b"data")
        assert await machine.read_within(".", "sub/file", 4) == b"data"
        assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file"]
    finally:
        await machine.stop()


async def test_the_error_is_typed_and_names_the_folder(world: World) -> None:
    with pytest.raises(OutsideFolder) as told:
        await world.theirs.read_within(".", f"{world.home}/id_rsa", 1000)
    assert told.value.folder == str(world.there)


# -- what the program says ---------------------------------------------------------------------------------------------


def descriptions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> dict[str, str]:
    """What an agent is told of its tools after ``connect(one, two, **options)``."""
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))
    harness = InProcessHarness([Text("Done.")])
    found: dict[str, str] = {}
    make: Callable[..., Any] = builtin.builtin_tools

    def spy(*arguments: Any) -> Any:
        tools = make(*arguments)
        found.clear()
        found.update({tool.name: tool.definition()["description"] for tool in tools})
        return tools

    monkeypatch.setattr("ramure.agents.agent.builtin_tools", spy)

    @agent_process(image=harness.image)
    async def main() -> None:
        one, two = await agent("one"), await agent("two")
        await connect(one, two, **options)

    run_virtual(main())
    return found


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("workdir", "Only files in the working directories"), ("./shared", "the folder ./shared"),
        (Path("shared"), "the folder ./shared"), ("/srv/shared/", "the folder /srv/shared"), ("machine", None),
    ],
)  # fmt: skip
def test_the_tools_say_where_files_must_be(
    files: str | Path, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = descriptions(monkeypatch, tmp_path, files=files)["send_file"]
    assert (said in told) if said else ("folder" not in told and "director" not in told)


def test_without_files_there_are_no_file_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(descriptions(monkeypatch, tmp_path, files="none")) == ["message"]


@pytest.mark.parametrize("files", ["shared", "machines", "", "~/shared", None, 7, "a\0/b", True, b"/x"])
def test_a_value_that_is_none_is_refused(files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"connect\(files="):
        descriptions(monkeypatch, tmp_path, files=files)


def test_an_agent_of_its_own_send_file_can_be_connected_without_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))
    harness = InProcessHarness([ToolCall("send_file", {"to": "the user"}), Text("Done.")])
    sent: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        one, two = await agent("one"), await agent("two")

        @one.on("send_file")
        def send_file(to: str) -> None:
            """Send the file."""
            sent.append(to)

        await connect(one, two, files="none")
        await one.ask("Send it.")

    run_virtual(main())
    assert sent == ["the user"]
