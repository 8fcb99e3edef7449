"""A real OpenSSH server for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ramure.machines.ssh.image import SSHImage

__all__ = ["RC", "Sshd"]

RC = """
echo "Welcome to this host"
echo "bash: warning: setlocale: LC_ALL: cannot change locale" >&2
trap 'echo "bye"; echo "bye" >&2' EXIT
"""

FORCED = """#!/bin/sh
[ "$SSH_ORIGINAL_COMMAND" != internal-sftp ] || exec /usr/lib/openssh/sftp-server
exec {shell} "$SSH_ORIGINAL_COMMAND"
"""


class Sshd:
    """A real OpenSSH server of our own, on a port of 127.0.0.1; the login user is who runs the tests.

    Its home directory is its own, with a ``~/.bashrc`` that is ``rc``: bash reads it for every command that sshd starts. As
    it stands it prints, as many do, before a command, after it, and to both streams. ``shell`` is what runs commands instead
    of the login shell (sshd's ForceCommand). ``prefix`` is put before its command (to run it elsewhere), ``address`` is where
    it is then; ``environment`` is set for what logs in.
    """

    def __init__(
        self,
        directory: Path,
        settings: str = "",
        *,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        rc: str = RC,
        shell: str = "",
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.address = address
        self.prefix = list(prefix)
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (directory / "authorized_keys").write_text((directory / "user_key.pub").read_text())
        (directory / "known_hosts").write_text(f"[{address}]:{self.port} {(directory / 'host_key.pub').read_text()}")
        self.home = directory / "home"
        self.home.mkdir()
        (self.home / ".bashrc").write_text(rc)
        variables = " ".join(
            f"{name}={value}" for name, value in {"HOME": str(self.home), **(environment or {})}.items()
        )
        if shell:
            forced = directory / "forced"
            forced.write_text(FORCED.format(shell=shell))
            forced.chmod(0o755)
            settings += f"ForceCommand {forced}\n"
        (directory / "config").write_text(
            f"Port {self.port}\nListenAddress {address}\nHostKey {directory}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            f"PasswordAuthentication no\nSetEnv {variables}\nSubsystem sftp internal-sftp\n{settings}"
        )
        self.start()

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        command = [*self.prefix, sshd, "-D", "-e", "-f", str(self.directory / "config")]
        deadline = time.monotonic() + 20
        while True:
            with (self.directory / "log").open("a") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
            while (
                self.process.poll() is None
            ):  # it ends at once where another process has its port: for a moment, we hope
                if self.answers():
                    return
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.02)
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it is sshd that listens there: a process that has no listener may connect to itself."""
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False

    def sessions(self) -> list[int]:
        """The processes of sshd that serve a connection each."""
        listing = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listing.stdout.split()]

    def cut(self) -> None:
        """Kill what serves the present connections."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def image(self, **options: object) -> SSHImage:
        """An image that logs in here; nothing of the user's own SSH settings is read."""
        options = {
            "host": self.address,
            "port": self.port,
            "key": str(self.directory / "user_key"),
            "known_hosts": str(self.directory / "known_hosts"),
            "config": os.devnull,
            "abandon_after": 60.0,  # what a test leaves that ended the host's sshd is gone a minute later
            **options,
        }
        return SSHImage(**options)  # type: ignore[arg-type]
