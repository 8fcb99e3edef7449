"""This host through bubblewrap: commands see the system read-only, and can write in the working directory alone.

The reaper itself runs inside the sandbox, so that all commands of a machine share one: what one leaves running
(tmux, a server), the others see. Files are read and written by commands inside it too: on this side, a symbolic
link that a command made would lead out.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from ramure.executor import in_thread
from ramure.home import ramure_home
from ramure.machines.base import AGENT, Image
from ramure.machines.copies.workspace import Workspace, temporary, yours
from ramure.machines.errors import MachineError, SpawnFailed, UserRefused
from ramure.machines.files.remote import FilesByCommand
from ramure.machines.local import LocalMachine, made
from ramure.machines.reaper.reaper import PROGRAM, REMOVAL, KeptCommand, Reaper, Sink, finished
from ramure.machines.sandbox.setuid import strip_setuid
from ramure.marks import marked_environment
from ramure.masking import get_logger

__all__ = ["SandboxImage", "SandboxMachine"]

logger: logging.Logger = get_logger("ramure.machines")

HOME = "/home/agent"
LIBRARY_PATH = "RAMURE_LD_LIBRARY_PATH"
"""Tells our own program which LD_LIBRARY_PATH commands get: what it needs itself is not theirs."""

INSIDE = "/run/ramure"
"""Where our own program and its Python are seen in the sandbox."""

CLOCK_SLACK = 1.0
"""Seconds by which a file system's clock may be behind."""

NAMED = 10
"""Files that a warning names, at most."""

SYSTEM = ("/usr", "/opt", "/nix/store")
"""Seen as they are, read-only (with the /bin, /lib ... that a system may have beside /usr)."""

ROOT_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "group", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf", "services", "ssl",
    "terminfo", "timezone",
)  # fmt: skip
"""What is seen of /etc: no keys, no password hashes."""

ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ")
"""What is kept of this program's environment; anything else must be said with ``env=``."""


@dataclass(frozen=True)
class SandboxImage(Image):
    """This host in a sandbox: a process namespace of its own, no view of HOME, nothing but ``workdir`` writable.

    ``network=False`` leaves only a loopback interface. ``readonly`` are further paths to be seen (a Node and a
    pi that live in HOME, say). The environment is ``env`` and little else. Linux only; needs ``bwrap``.
    """

    workdir: str | os.PathLike[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: bool = True
    readonly: Sequence[str | os.PathLike[str]] = ()

    def describe(self) -> str:
        where = f" in {os.fspath(self.workdir)}" if self.workdir is not None else ""
        return f"a sandbox on this host{where}" + ("" if self.network else " (no network)")

    async def spawn(self) -> SandboxMachine:
        identity = uuid.uuid4().hex[:8]
        try:
            make = temporary if self.workdir is None else lambda _: yours(os.path.realpath(self.workdir or ""))
            workspace = await made(lambda: make(identity), Workspace.remove)
        except OSError as error:
            raise SpawnFailed(self.describe(), f"no working directory: {error}") from error
        return await self.spawn_in(workspace, identity)

    async def spawn_in(self, workspace: Workspace, identity: str) -> SandboxMachine:
        """A sandbox around this directory, which is the machine's from now on."""
        began = time.time() - CLOCK_SLACK
        bwrap = shutil.which("bwrap")
        try:
            if bwrap is None:
                remedy = "install bubblewrap (Debian, Ubuntu, Fedora: the package `bubblewrap`; Linux only)"
                raise SpawnFailed(self.describe(), "there is no `bwrap` on the PATH", remedy)
            reaper = await self._reaper(bwrap, workspace.path)
        except BaseException:
            await in_thread(workspace.remove)
            raise
        return SandboxMachine(identity, workspace, self, reaper, began)

    async def _reaper(self, bwrap: str, workdir: str) -> Reaper:
        python, prefix = await in_thread(self._arguments, workdir)
        kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment = {**kept, "HOME": HOME, "TMPDIR": "/tmp", "SHELL": "/bin/sh", **self.env, **marked_environment()}
        program = f"{INSIDE}/reaper.py"
        reaper = await Reaper.start(
            f"the sandbox in {workdir}", env=environment, prefix=[bwrap, *prefix], python=python, program=program
        )
        try:
            probe = await reaper.run(["/bin/sh", "-c", "exit 0"], cwd=workdir, sink=lambda *_: None)
            await probe.wait()
        except BaseException as error:
            await finished(reaper.stop())
            if not isinstance(error, MachineError):
                raise
            remedy = "the kernel may forbid namespaces here (in a container: allow them, or use another image)"
            raise SpawnFailed(self.describe(), f"bwrap could not start: {error}", remedy) from error
        return reaper

    def _arguments(self, workdir: str) -> tuple[str, list[str]]:
        arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        if self.network:
            arguments.append("--share-net")
        for path in SYSTEM:
            arguments += ["--ro-bind-try", path, path]
        for path in ROOT_LINKS:
            if os.path.islink(path):
                arguments += ["--symlink", os.readlink(path), path]
            else:
                arguments += ["--ro-bind-try", path, path]
        for name in ETC:
            arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"]
        arguments += ["--tmpfs", "/run", "--dir", HOME, "--ro-bind", str(PROGRAM), f"{INSIDE}/reaper.py"]
        arguments += ["--ro-bind", str(REMOVAL), f"{INSIDE}/removal.py"]
        python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        if not python.startswith(("/usr/", "/bin/")):
            arguments += ["--ro-bind", sys.base_prefix, f"{INSIDE}/python"]
            python = f"{INSIDE}/python/{os.path.relpath(python, os.path.realpath(sys.base_prefix))}"
            # A Python that was built with --enable-shared (pyenv) knows its library by the path that it has outside.
            arguments += ["--setenv", "LD_LIBRARY_PATH", f"{INSIDE}/python/lib"]
            arguments += ["--setenv", LIBRARY_PATH, self.env.get("LD_LIBRARY_PATH", "")]
        toolchain = ramure_home() / "toolchain"  # a private Node and pi, if there are any: agents run in here too
        for tools in {str(toolchain), os.path.realpath(toolchain)}:
            arguments += ["--ro-bind-try", tools, tools]
        for extra in self.readonly:
            path = os.path.abspath(os.path.expanduser(os.fspath(extra)))
            arguments += ["--ro-bind", path, path]
        return python, [*arguments, "--bind", workdir, workdir, "--chdir", workdir, "--"]


class SandboxMachine(FilesByCommand, LocalMachine):
    """A machine of :class:`SandboxImage`."""

    here = False

    def __init__(self, identity: str, workspace: Workspace, image: SandboxImage, reaper: Reaper, began: float) -> None:
        super().__init__(identity, workspace, image.env, reaper)
        self.image = image
        self._began = began
        self._shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"

    def describe(self) -> str:
        return f"the sandbox in {self.workdir}"

    def install_hint(self) -> str:
        return "install them with `ramure setup --private`, or show those that are here: SandboxImage(readonly=[...])"

    async def _stop(self) -> None:
        await self.reaper.stop()
        # What commands made is ours outside: root's, where we are root.
        stripped = await in_thread(strip_setuid, self.workdir, self._began)
        if stripped:
            more = f" and {len(stripped) - NAMED} more" if len(stripped) > NAMED else ""
            logger.warning(
                "%s had made files setuid or setgid: %s%s; they are no more",
                self.describe(),
                ", ".join(map(repr, stripped[:NAMED])),
                more,
            )
        await in_thread(self.workspace.remove)

    async def _sibling(self, identity: str, workspace: Workspace) -> SandboxMachine:
        return await self.image.spawn_in(workspace, identity)

    def _user(self, user: str) -> str | None:
        if user != AGENT:
            raise UserRefused(user, self.describe(), "it has one user only")
        return None

    def _full(self, path: str) -> str:
        return os.path.join(self.workdir, path)

    async def _run_script(self, argv: list[str], sink: Sink, stdin: IO[bytes] | None) -> KeptCommand:
        return await self.reaper.run(
            ["/bin/sh", "-c", *argv],
            cwd=self.workdir,
            sink=sink,
            stdin=None if stdin is None else stdin.fileno(),
        )
