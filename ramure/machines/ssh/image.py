"""Machines over SSH: a host that you can log in to, with a POSIX shell; tmux for agents."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ramure.machines.base import Image
from ramure.machines.errors import (
    HostKeyRefused,
    LoginRefused,
    MachineError,
    SpawnFailed,
)
from ramure.machines.reaper.reaper import finished
from ramure.machines.ssh.config import Target, check_name, resolve
from ramure.machines.ssh.machine import SSHMachine, in_thread_of
from ramure.machines.ssh.pool import Pool

__all__ = ["SSHImage", "SSHMachine"]

THREADS = 128


@dataclass(frozen=True)
class SSHImage(Image):
    """A host to log in to, as OpenSSH would: what ``ssh -G`` says of ``~/.ssh/config`` (or ``config``) is honoured, and the
    ssh-agent.

    ``jump`` is ``user@host:port``, several with commas between (as ProxyJump). ``workdir`` is made when missing
    and never removed; without it each machine has a temporary directory. ``env`` reaches commands through a file
    of mode 0600. Host keys are verified against ``known_hosts`` (default: OpenSSH's files); an unknown one is an
    error. A link that is silent for ``dead_after`` seconds counts as broken, and a host that cannot be reached
    for ``give_up_after`` seconds as down. What runs there and was made there is ended and removed, by the host itself,
    when this program has given no sign of life for ``abandon_after`` seconds (None: never).
    """

    host: str
    user: str | None = None
    port: int | None = None
    key: str | None = None
    config: str | None = None
    jump: str | None = None
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    known_hosts: str | None = None
    dead_after: float = 15.0
    give_up_after: float = 60.0
    abandon_after: float | None = 600.0

    def __post_init__(self) -> None:
        check_name("host", self.host)
        if self.user is not None and self.user != "":
            check_name("user", self.user)
        for hop in (self.jump or "").split(","):
            if hop:
                check_name("jump", hop.strip().rpartition("@")[2])
                check_name("jump", hop.strip())

    def describe(self) -> str:
        return f"ssh {self.user + '@' if self.user else ''}{self.host}" + (
            f" in {self.workdir}" if self.workdir else ""
        )

    def address(self) -> str:
        """``user@host``, as ``ssh`` takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def options(self) -> list[str]:
        """The options that make ``ssh`` go the same way."""
        said = {"-p": self.port, "-i": self.key, "-F": self.config, "-J": self.jump}
        options = [word for option, value in said.items() if value is not None for word in (option, str(value))]
        return [*options, "-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else options

    async def spawn(self) -> SSHMachine:
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"ssh {self.host}")
        pool: Pool | None = None
        machine: SSHMachine | None = None
        try:
            pool = Pool(await in_thread_of(threads, self._target), patience=self.give_up_after)
            await pool.start()
            machine = SSHMachine(self, pool, threads)
            await machine.prepare()
        except BaseException as error:
            await finished(_undone(machine, pool, threads))
            if isinstance(error, (MachineError, OSError)) and not isinstance(error, (HostKeyRefused, LoginRefused)):
                raise SpawnFailed(self.describe(), str(error)) from error
            raise
        return machine

    def _target(self) -> Target:
        return resolve(
            self.host, user=self.user, port=self.port, key=self.key, config=self.config, jump=self.jump,
            known_hosts=self.known_hosts, dead_after=self.dead_after,
        )  # fmt: skip


async def _undone(machine: SSHMachine | None, pool: Pool | None, threads: ThreadPoolExecutor) -> None:
    """After a spawn that failed: nothing of it is left."""
    if machine is not None:
        await machine.stop()
    elif pool is not None:
        await pool.close()
    threads.shutdown(wait=False)
