"""The machines that the contract suite runs over: a backend is one row."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ramure.machines.base import Image
from ramure.machines.docker.image import DockerImage
from ramure.machines.local import LocalImage
from ramure.machines.morph.image import MorphImage
from ramure.machines.sandbox.image import SandboxImage
from ramure.testing.memory_machine import MemoryImage
from tests.machines.engine import IMAGE, docker_engine
from tests.machines.sshd import Sshd

if TYPE_CHECKING:
    from tests.machines.morph_fake import MorphFake

DOCS = Path(__file__).parents[2] / "docs" / "machines.md"


@dataclass(frozen=True)
class Row:
    """``image(directory)`` makes the image; the rest says what the backend can do."""

    name: str
    image: Callable[[Path], Image]
    gone_within: float = 15.0  # seconds after a timeout in which all that a command started is gone, on a busy host
    here: bool = True  # its processes and files are seen from this host
    stragglers: bool = True  # also what left the command's process group and environment is ended
    users: tuple[str, ...] = ()  # users other than its own that it can run commands as
    processes: bool = True  # commands are real
    forks: bool = True
    kernel: bool = True  # its files show the kernel's (the fake of MorphCloud shows a directory)
    refuses: bool = True  # what is no regular file, and what no file can be called (an example of a backend need not)
    start: float = 0.0  # seconds that a command may take to start, on a busy host


def documented(directory: Path) -> Image:
    """The four-method backend of docs/machines.md, as it stands there."""
    block = re.search(r"<!-- four-method backend -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    names: dict[str, object] = {}
    exec(compile(block[1], str(DOCS), "exec"), names)
    return names["ToolImage"](str(directory))  # type: ignore[operator,no-any-return]


@functools.cache
def sshd() -> Sshd:
    """The one server that all of a session's tests share."""
    server = Sshd(Path(tempfile.mkdtemp(prefix="ramure-test-sshd-", dir="/tmp")))
    _ENDS.append(server.stop)
    _ENDS.append(lambda: shutil.rmtree(server.directory))
    return server


_ENDS: list[Callable[[], object]] = []


def end_shared() -> None:
    """End what a session's tests have shared."""
    while _ENDS:
        _ENDS.pop(0)()


@pytest.fixture(scope="session", autouse=True)
def _ends() -> Iterator[None]:
    yield
    end_shared()


@pytest.fixture(autouse=True)
def no_leases(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ``RAMURE_HOME``, in which no machine may leave a lease."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RAMURE_HOME", str(home))
    yield home
    assert [lease.read_text() for lease in home.glob("machines/*")] == []


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server for one test, to be mistreated."""
    directory = tmp_path / "sshd"
    directory.mkdir()
    server = Sshd(directory)
    yield server
    server.stop()


@functools.cache
def morph() -> tuple[MorphFake, str]:
    """The fake of MorphCloud that all of a session's tests share, and an empty snapshot there."""
    from tests.machines.morph_fake import MorphFake  # heavy: asyncssh

    stack = contextlib.ExitStack()
    fake = stack.enter_context(MorphFake.running())
    home = stack.enter_context(tempfile.TemporaryDirectory(prefix="ramure-test-morph-home-"))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    for name, value in {**fake.environment(), "RAMURE_HOME": home}.items():
        patch.setenv(name, value)
    _ENDS.append(stack.close)
    return fake, fake.snapshot()


def container(_: Path) -> DockerImage:
    """A container of the tests' own image, on their own engine."""
    return DockerImage(IMAGE, env={"RAMURE_TEST": "42"}, pull="never", engine=docker_engine().command)


ROWS = [
    Row("in-memory", lambda _: MemoryImage(env={"RAMURE_TEST": "42"}), here=False, processes=False),
    Row("local", lambda directory: LocalImage(workdir=directory, env={"RAMURE_TEST": "42"}), 0.5, users=("nobody",)),
    Row("sandbox", lambda directory: SandboxImage(workdir=directory, env={"RAMURE_TEST": "42"}), here=False),
    Row(
        "ssh",
        lambda directory: sshd().image(workdir=str(directory), env={"RAMURE_TEST": "42"}),
        1.0,
        users=("nobody",),
        forks=False,
    ),
    Row(
        "morph",
        lambda _: MorphImage(morph()[1], env={"RAMURE_TEST": "42"}),
        here=False,
        users=("nobody",),
        kernel=False,
    ),
    Row("docker", container, here=False, users=("nobody",), start=1.0),
    Row("documented", documented, stragglers=False, forks=False, refuses=False),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with ``row`` runs over each backend that has what it ``needs``, and not what it is to ``lack``."""
    if "row" in metafunc.fixturenames:
        needs = [need for mark in metafunc.definition.iter_markers("needs") for need in mark.args]
        lacks = [lack for mark in metafunc.definition.iter_markers("lacks") for lack in mark.args]
        rows = [
            row
            for row in ROWS
            if all(getattr(row, need) for need in needs) and not any(getattr(row, lack) for lack in lacks)
        ]
        real = {"ssh", "docker"}
        parameters = [pytest.param(row, marks=[pytest.mark.real] * (row.name in real)) for row in rows]
        metafunc.parametrize("row", parameters, ids=[row.name for row in rows])
