"""A Docker engine for the tests: one of their own, real, for a whole session of pytest; and an image without a registry.

All workers of pytest-xdist share the engine. Each holds a shared lock as long as it lives; a process beside them waits
for the exclusive one, then ends the engine: so nothing is left, also when the tests are killed. The engine has a
mount namespace of its own, in which all that it mounts goes with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

IMAGE = "ramure-test"
TEMPORARY = tempfile.gettempdir()  # now: tests set TMPDIR

TOOLS = (
    "awk basename bash cat chmod chown cp cut date dd dirname echo env find getent grep head id kill ln ls mkdir mkfifo mktemp mv "
    "nohup od perl pgrep pkill printf ps readlink rm sed seq setsid sh sleep sort stat tail tee test tmux touch tr true "
    "uname wc xargs"
).split()

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000::/home/agent:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
}

ENGINE = r"""
set -e
mkdir "$0/data"
mount -t tmpfs $1 tmpfs "$0/data"
cd "$0"
echo '{}' > config.json
exec dockerd --config-file "$0/config.json" --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" \
    --host "unix://$0/socket" --group "$(id -g)" --storage-driver overlay2 \
    --iptables=false --ip6tables=false --bridge=none >"$0/log" 2>&1 </dev/null
"""

END = r"""
export DOCKER_HOST="unix://$0/socket"
left=$(docker ps -aq) && [ -n "$left" ] && docker rm -f $left
kill "$(cat "$0/pid")"
tries=0
while kill -0 "$(cat "$0/pid" 2>/dev/null)" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -rf "$0"
"""


class DockerEngine:
    """A running engine, in a directory of its own. ``command`` is what ``DockerImage(engine=)`` takes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._client = shutil.which("docker") or "docker"  # now: tests set PATH
        self.command = ("docker", "--host", f"unix://{directory}/socket")

    def docker(self, *arguments: str, data: bytes | None = None) -> str:
        """Run a command of the engine to its end; its output."""
        done = subprocess.run(
            [self._client, *self.command[1:], *arguments], input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def start(self, size: str = "") -> None:
        """Start it; ``size`` limits its disk (``64m``)."""
        options = f"-o size={size}" if size else ""
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENGINE, str(self.directory), options]
        _detached(argv)
        deadline = time.monotonic() + 30
        while subprocess.run([*self.command, "info"], capture_output=True, check=False).returncode != 0:
            log = self.directory / "log"
            assert time.monotonic() < deadline, log.read_text() if log.exists() else "dockerd did not start"
            time.sleep(0.05)
        self.docker("import", "--change", "ENV PATH=/usr/bin:/bin", "-", IMAGE, data=root_file_system())
        self.docker("tag", IMAGE, "debian:bookworm")  # so it is called in the docs

    def end_with(self, lock: Path) -> None:
        """Have it ended when nobody holds ``lock`` any more."""
        _detached(["flock", "--exclusive", str(lock), "sh", "-c", END, str(self.directory)])

    def end(self) -> None:
        """End it now."""
        subprocess.run(["sh", "-c", END, str(self.directory)], capture_output=True, check=False)


def _detached(argv: list[str]) -> None:
    """Start a program that outlives the worker which happens to start it, and belongs to no test."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    null = subprocess.DEVNULL
    subprocess.run(
        ["setsid", "--fork", *argv], env=environment, stdin=null, stdout=null, stderr=null, cwd="/", check=True
    )


def root_file_system() -> bytes:
    """A tar of this host's own tools with the libraries that they need (19 MB, under a second)."""
    programs = {name: found for name in TOOLS if (found := shutil.which(name))}
    files = {os.path.realpath(program) for program in programs.values()}
    node = next((Path(__file__).parents[2] / ".ramure-dev").glob("*/toolchain/**/bin/node"), None)
    wanted = [*files, *([str(node)] if node is not None else [])]
    listing = subprocess.run(["ldd", *wanted], capture_output=True, text=True, check=False).stdout
    libraries = {word for line in listing.splitlines() for word in line.split() if word[0] == "/" and word[-1] != ":"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=False) as tar:
        for directory, mode in (("tmp", 0o1777), ("root", 0o700), ("home/agent", 0o755), ("var/tmp", 0o1777)):
            _add(tar, directory, tarfile.DIRTYPE, mode=mode, owner=1000 if directory == "home/agent" else 0)
        for name, text in ACCOUNTS.items():
            _add(tar, name, tarfile.REGTYPE, text.encode())
        for file in files | libraries:
            _add(tar, file[1:], tarfile.REGTYPE, Path(file).read_bytes(), mode=0o755)
        for name, program in programs.items():
            for place in ("bin", "usr/bin"):
                if f"/{place}/{name}" not in files:
                    _add(tar, f"{place}/{name}", tarfile.SYMTYPE, link=os.path.realpath(program))
        for data in (
            "/usr/lib/locale/C.utf8",
            "/usr/share/terminfo",
            "/lib/terminfo",
            "/etc/ssl/certs/ca-certificates.crt",
        ):
            if os.path.exists(data):
                tar.add(data, data[1:])
    return content.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes,
    data: bytes = b"",
    *,
    mode: int = 0o644,
    owner: int = 0,
    link: str = "",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.uid, entry.gid, entry.linkname = kind, mode, len(data), owner, owner, link
    tar.addfile(entry, io.BytesIO(data))


@functools.cache
def docker_engine() -> DockerEngine:
    """The session's engine, started when first asked for. Skips, and says so, only where none can be started."""
    if os.getuid() != 0:
        pytest.skip("DOCKER WAS NOT TESTED: only root can start an engine")
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("DOCKER WAS NOT TESTED: there is no dockerd (`tools/need.sh dockerd` installs it)")
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    directory = Path(TEMPORARY, f"ramure-test-docker-{session}")
    directory.mkdir(mode=0o700, exist_ok=True)
    engine = DockerEngine(directory)
    users = (directory / "users").open("a")
    fcntl.flock(users, fcntl.LOCK_SH)
    with _counted(directory, +1) as first:
        if first == 1:
            engine.end_with(directory / "users")
            engine.start()
    _USED.append((directory, users))
    return engine


_USED: list[tuple[Path, IO[str]]] = []


@contextlib.contextmanager
def _counted(directory: Path, change: int) -> Iterator[int]:
    """Add to the number of workers that use the engine, alone."""
    with (directory / "count").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        count = int(file.read() or 0) + change
        yield count
        file.truncate(0)
        file.write(str(count))


def leave_engine() -> None:
    """At the end of a worker. The last one waits until the engine is gone."""
    for directory, users in _USED:
        with _counted(directory, -1) as left:
            users.close()
        deadline = time.monotonic() + 30
        while left == 0 and directory.exists():
            assert time.monotonic() < deadline, f"{directory} is still there"
            time.sleep(0.05)
