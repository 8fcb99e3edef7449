"""A host on this host: a network and processes of its own, and a link to it that can be broken. Blocking; needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ramure.machines.ssh.image import SSHImage
from tests.machines.sshd import Sshd

__all__ = ["Host"]

INIT = """
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.02)
"""
"""What the first process of a system does for orphans."""

BOOT = 5.0
"""Seconds that the host is off when it is rebooted."""


class Host:
    """Files are shared with this host; its TMPDIR is ``temporary``, which a reboot empties.

    Two links lead there: over one (``address``) goes what the run does, and it is the one that breaks. Over the other
    (``outside`` is our end) pi reaches its model, which is not ours to break.
    """

    def __init__(self, directory: Path) -> None:
        number = os.getpid() % 250
        self.name = f"ramure-links-{os.getpid()}"
        self.ends = (f"rl{os.getpid()}a", f"rl{os.getpid()}b")
        self.address, self._ours = f"10.213.{number}.2", f"10.213.{number}.1"
        self.outside, self._its = f"10.214.{number}.1", f"10.214.{number}.2"
        self.temporary = directory / "host-tmp"
        self.temporary.mkdir(mode=0o700)
        keys = directory / "sshd"
        keys.mkdir()
        try:
            self._power_on()
            environment = {"TMPDIR": str(self.temporary)}
            self.sshd = Sshd(keys, address=self.address, prefix=self._inside(), environment=environment)
        except BaseException:
            self._power_off()
            raise

    def image(self, **options: Any) -> SSHImage:
        """An image that logs in there."""
        return self.sshd.image(**options)

    # -- its power ------------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        _run("ip", "netns", "add", self.name)
        self._ip("link", "set", "lo", "up")
        for end, inside, here, there in (
            (self.ends[0], "run", self._ours, self.address),
            (self.ends[1], "out", self.outside, self._its),
        ):
            _run("ip", "link", "add", end, "type", "veth", "peer", "name", inside, "netns", self.name)
            _run("ip", "addr", "add", f"{here}/30", "dev", end)
            _run("ip", "link", "set", end, "up")
            self._ip("addr", "add", f"{there}/30", "dev", inside)
            self._ip("link", "set", inside, "up")
        own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._power = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *own, sys.executable, "-I", "-S", "-c", INIT], stdin=subprocess.DEVNULL
        )
        self._init = _one_child(self._power.pid)

    def _power_off(self) -> None:
        """End every process there at once, as the loss of power does, and its network."""
        if hasattr(self, "_power"):
            self._power.kill()  # with the first process, all others end (--kill-child)
            self._power.wait()
        for end in self.ends:
            subprocess.run(["ip", "link", "del", end], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def close(self) -> None:
        self._power_off()
        self.sshd.process.wait()

    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._init), "--net", "--pid", "--mount"]

    def _ip(self, *words: str) -> None:
        _run("ip", "-n", self.name, *words)

    # -- what is there --------------------------------------------------------------------------------------------

    def processes(self) -> list[str]:
        """The commands of its processes, those of the system itself apart."""
        listing = subprocess.run(
            [*self._inside(), "ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        rows = [line.split(None, 1) for line in listing]
        return [args for pid, args in rows if pid != "1" and not args.startswith(("sshd", "ps -eo"))]

    def files(self) -> list[str]:
        """What is in its TMPDIR."""
        return sorted(path.name for path in self.temporary.iterdir() if path.name not in ("jiti", "node-compile-cache"))

    # -- what happens to it ---------------------------------------------------------------------------------------

    def link_down(self, seconds: float) -> None:
        """The cable is out: its end of the link is down."""
        self._ip("link", "set", "run", "down")
        time.sleep(seconds)
        self._ip("link", "set", "run", "up")

    def link_down_for_good(self) -> None:
        """The cable is out, and stays so."""
        self._ip("link", "set", "run", "down")

    def silent(self, seconds: float) -> None:
        """Something in between drops every packet, and says nothing."""
        rules = (("INPUT", "-i"), ("OUTPUT", "-o"))
        for chain, direction in rules:
            self._iptables("-A", chain, direction, "run", "-j", "DROP")
        time.sleep(seconds)
        for chain, direction in rules:
            self._iptables("-D", chain, direction, "run", "-j", "DROP")

    def _iptables(self, *words: str) -> None:
        _run("ip", "netns", "exec", self.name, "iptables", "-w", *words)

    def kill_sessions(self) -> None:
        """kill -9 to each of sshd's processes that serve a connection; sshd itself goes on."""
        for pid in self.sessions():
            subprocess.run(["kill", "-9", str(pid)], capture_output=True, check=False)

    def sessions(self) -> list[int]:
        return _children(_one_child(self.sshd.process.pid))

    def restart_sshd(self, *, sessions: bool) -> None:
        """sshd ends and is started again: alone, as an upgrade does it, or with the connections that it serves."""
        ended = self.sessions() if sessions else []
        for pid in [_one_child(self.sshd.process.pid), *ended]:
            subprocess.run(["kill", str(pid)], capture_output=True, check=False)
        self.sshd.process.wait()
        self.sshd.start()

    def reboot(self) -> None:
        """It loses its power, and what was in memory and in /tmp: no connection is closed."""
        self._ip("link", "set", "run", "down")
        self._power_off()
        self.sshd.process.wait()
        for left in self.temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        time.sleep(BOOT)
        self._power_on()
        self.sshd.prefix = self._inside()
        self.sshd.start()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _one_child(pid: int) -> int:
    """The one child of a process that is about to have it."""
    deadline = time.monotonic() + 10
    while not (children := _children(pid)):
        assert time.monotonic() < deadline, f"process {pid} has no child"
        time.sleep(0.01)
    return children[0]


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
