"""A "VM" of the fake Morph: a root directory of its own, in which real commands run under bubblewrap.

All VMs have their files at the same paths (``/mnt/root``, the home directory, and ``/tmp``), so that a copy of one is
one; the rest of this host is seen read-only. Processes have a namespace of their own and end with the VM. A copy
holds the files, not the processes (the real service keeps both).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from ramure.machines.reaper.reaper import PROGRAM, KeptCommand, Reaper

REPOSITORY = Path(__file__).parents[2]
HOME = "/mnt/root"
AHEAD = 4 << 20


def new_root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="ramure-test-morph-"))
    (root / "mnt" / "root").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return root


def copy_root(source: Path) -> Path:
    copy = Path(tempfile.mkdtemp(prefix="ramure-test-morph-"))
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(copy)], check=True)
    return copy


class Vm:
    """A running VM. ``stop()`` ends its processes; its root stays."""

    def __init__(self, root: Path, reaper: Reaper) -> None:
        self.root = root
        self.reaper = reaper

    @classmethod
    async def start(cls, root: Path, shares: Sequence[Path] = ()) -> Vm:
        """``shares`` are directories of this host that are seen, and written, at the same path."""
        python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        bwrap = shutil.which("bwrap")
        assert bwrap is not None
        prefix = [
            bwrap, "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session", "--ro-bind", "/", "/",
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--ro-bind", str(PROGRAM), "/run/reaper.py",
            "--bind", str(root / "tmp"), "/tmp", "--tmpfs", "/mnt", "--bind", str(root / "mnt" / "root"), HOME,
            "--ro-bind", str(REPOSITORY), str(REPOSITORY),
        ]  # fmt: skip
        for share in shares:
            prefix += ["--bind", str(share), str(share)]
        if os.getuid() == 0:
            prefix += ["--cap-add", "ALL"]
        environment = {"PATH": os.environ["PATH"], "HOME": HOME, "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}
        reaper = await Reaper.start(
            "a VM", env=environment, prefix=[*prefix, "--"], python=python, program="/run/reaper.py"
        )
        return cls(root, reaper)

    async def run(self, command: str) -> tuple[int, bytes, bytes]:
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        argv = ["/bin/bash", "-c", command]
        running = await self.reaper.run(argv, cwd=HOME, sink=lambda source, data: output[source].append(data))
        code = await running.wait()
        return code, b"".join(output["stdout"]), b"".join(output["stderr"])

    async def stop(self) -> None:
        await self.reaper.stop()


async def serve_session(process: asyncssh.SSHServerProcess[bytes], vm: Vm) -> None:
    """Run an SSH session's command. As with a real sshd, a client that goes away does not end it."""
    queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
    ahead = 0
    running: KeptCommand

    def sink(source: str, data: bytes) -> None:
        nonlocal ahead
        ahead += len(data)
        queue.put_nowait((source, data))
        if ahead > AHEAD:
            running.pause()

    running = await vm.reaper.run(["/bin/bash", "-c", process.command or "true"], cwd=HOME, sink=sink)
    ending = asyncio.ensure_future(running.wait())
    ending.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (item := await queue.get()) is not None:
            source, data = item
            writer = process.stdout if source == "stdout" else process.stderr
            writer.write(data)
            await writer.drain()
            ahead -= len(data)
            if ahead <= AHEAD // 2:
                running.resume()
        process.exit(await ending)
    except (asyncssh.Error, OSError):  # the client is gone, and nobody will read on
        running.close()
        ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


class VmFiles(asyncssh.SFTPServer):
    """SFTP into a VM's root."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], root: Path) -> None:
        super().__init__(chan, chroot=os.fsencode(root))

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """As sshd's own process, one that opens a FIFO waits for its other end, and nobody else does."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[object] = loop.create_future()

        def settle(result: object, error: Exception | None) -> None:
            if opened.done():
                return
            if error is None:
                opened.set_result(result)
            else:
                opened.set_exception(error)

        def work() -> None:
            result: object = None
            failed: Exception | None = None
            try:
                result = super(VmFiles, self).open(path, pflags, attrs)
            except Exception as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(settle, result, failed)

        threading.Thread(target=work, daemon=True).start()
        return await opened
