"""Machines in containers, of Docker or podman."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ramure.executor import in_thread
from ramure.machines.base import Image
from ramure.machines.commands import spool
from ramure.machines.docker.commit import Commit
from ramure.machines.docker.engine import RUN, Engine, EngineSilent, problem
from ramure.machines.docker.machine import DockerMachine
from ramure.machines.docker.undo import MACHINE, Undoing
from ramure.machines.errors import MachineError, SpawnFailed
from ramure.machines.reaper import leases
from ramure.machines.reaper.reaper import finished
from ramure.marks import marked_run
from ramure.types import ExecResult

__all__ = ["DockerContainer", "DockerImage", "DockerMachine"]

IDLE = "trap 'exit 0' TERM; while :; do sleep 86400 & wait; done"
"""What a container runs when no command is said. Its ``wait`` also collects what others leave to process 1."""

PULL_LIMIT = 3600.0
RUN_LIMIT = 120.0


@dataclass(frozen=True)
class DockerImage(Image):
    """Containers of ``image``, each a machine. The engine is docker, else podman, whichever is on the PATH; ``engine``
    names another, with options if need be: ``("docker", "--context", "build")``.

    ``workdir`` is made when missing (default: the image's own; ``/work`` where that is ``/``). ``env`` reaches
    commands through a file that is private and in memory: not through the container's settings, which all who may
    use the engine can list; with a ``command`` of your own it has to be there too. ``network`` is ``host``, or
    any that the engine knows. ``volumes`` are ``"/host/dir:/inside:ro"``, or ``{"/host/dir": "/inside:ro"}``.
    ``user`` is who runs commands (default: the image's user). ``command`` (a shell line, or a list of arguments; an
    empty list is the image's own) is what the container runs: the machine lives as long as that. ``pull`` is
    ``missing``, ``always`` or ``never``. ``memory`` (``"2g"``), ``cpus`` and ``pids`` limit all of the container.
    ``remove_on_stop=False`` stops the container at the end, and leaves it.

    ``fork()`` and ``snapshot()`` commit the container's file system; volumes stay shared, processes are not copied.
    """

    image: str
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: str = "host"
    volumes: Sequence[str] | Mapping[str, str] = ()
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    command: str | Sequence[str] | None = None
    pull: str = "missing"
    memory: str | None = None
    cpus: float | None = None
    pids: int | None = None
    remove_on_stop: bool = True
    engine: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.pull not in ("missing", "always", "never"):
            raise ValueError(f"pull={self.pull!r}: it is 'missing', 'always' or 'never'")

    @staticmethod
    def attach(
        container: str,
        *,
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        engine: str | Sequence[str] | None = None,
    ) -> DockerContainer:
        """A container that runs already, as an image: the machine that is spawned from it is that container. It is
        borrowed: ``stop()`` ends what was run through the machine, and leaves the container as it is."""
        return DockerContainer(container, workdir, dict(env or {}), user, engine)

    def describe(self) -> str:
        return f"a container of {self.image}"

    async def spawn(self) -> DockerMachine:
        return await self.spawn_from(None)

    async def spawn_from(self, commit: Commit | None) -> DockerMachine:
        """As :meth:`spawn`; ``commit`` is what made the image, and stays as long as the machine."""
        identity = uuid.uuid4().hex[:12]

        async def made(engine: Engine) -> str:
            container = await self._create(engine, identity)
            started = await engine("start", container, timeout=RUN_LIMIT)
            if not started.ok:
                raise problem(self.describe(), "starting the container", started.stderr)
            return container

        removal = Undoing("container", identity)
        undo = removal if self.remove_on_stop else Undoing("container that stays", identity)
        machine = await _spawned(self, self, identity, made, undo, removal)
        if commit is not None:
            commit.hold()
            machine.commits.append(commit)
        return machine

    async def _create(self, engine: Engine, identity: str) -> str:
        """Make the container; its id."""
        if self.pull == "always":
            await self._pull(engine)
        # Not to be left half-way: what the engine makes later would not be found by the cleanup.
        result = await finished(self._created(engine, identity))
        if self.pull == "missing" and not result.ok and _lacks_image(result.stderr):
            await self._pull(engine)
            result = await finished(self._created(engine, identity))
        if not result.ok:
            raise problem(self.describe(), "making a container", result.stderr)
        return result.stdout.strip().splitlines()[-1]

    async def _pull(self, engine: Engine) -> None:
        pulled = await engine("pull", "--quiet", self.image, timeout=PULL_LIMIT)
        if not pulled.ok:
            raise problem(self.describe(), f"`{os.path.basename(engine.argv[0])} pull`", pulled.stderr)

    async def _created(self, engine: Engine, identity: str) -> ExecResult:
        arguments = ["create", "--pull", "never", *self._options(identity)]
        if self.command is None:
            return await engine(*arguments, "--entrypoint", "/bin/sh", self.image, "-c", IDLE, timeout=RUN_LIMIT)
        if isinstance(self.command, str):
            arguments += ["--entrypoint", "/bin/sh", "--env-file", "/dev/stdin", self.image, "-c", self.command]
        else:
            arguments += ["--env-file", "/dev/stdin", self.image, *self.command]
        lines = "".join(f"{name}={value}\n" for name, value in self.env.items())
        with await in_thread(spool, lines.encode("utf-8", "surrogateescape")) as environment:
            return await engine(*arguments, stdin=environment.fileno(), timeout=RUN_LIMIT)

    def _options(self, identity: str) -> list[str]:
        options = ["--network", self.network, "--label", f"{MACHINE}={identity}"]
        if run := marked_run():
            options += ["--label", f"{RUN}={run}"]
        for name, value in self.labels.items():
            options += ["--label", f"{name}={value}"]
        volumes = self.volumes
        pairs = [f"{here}:{inside}" for here, inside in volumes.items()] if isinstance(volumes, Mapping) else volumes
        for volume in pairs:
            options += ["--volume", _absolute(volume)]
        others: dict[str, str | float | None] = {
            "--name": self.name,
            "--user": self.user,
            "--memory": self.memory,
            "--cpus": self.cpus,
            "--pids-limit": self.pids,
        }
        for option, given in others.items():
            if given is not None:
                options += [option, str(given)]
        return options


@dataclass(frozen=True)
class DockerContainer(Image):
    """A container that somebody else runs; see :meth:`DockerImage.attach`."""

    container: str
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    engine: str | Sequence[str] | None = None

    def describe(self) -> str:
        return f"the container {self.container}"

    async def spawn(self) -> DockerMachine:
        identity = uuid.uuid4().hex[:12]

        async def found(engine: Engine) -> str:
            state = await engine.state(self.container)
            if not state.running:
                raise SpawnFailed(self.describe(), f"it does not run: {state.text}", "start it, then attach to it")
            return str(state.details["Id"])

        undo = Undoing("borrowed container", self.container, identity)
        copies = DockerImage(self.container, workdir=self.workdir, env=self.env, user=self.user, engine=self.engine)
        return await _spawned(self, copies, identity, found, undo, undo)


async def _spawned(
    image: Image,
    copies: DockerImage,
    identity: str,
    make: Callable[[Engine], Awaitable[str]],
    undo: Undoing,
    undo_failed: Undoing,
) -> DockerMachine:
    """A machine in the container that ``make`` gives the id of. ``copies`` is what forks are made like. ``undo``
    says how the machine is ended, now or when this program is dead; ``undo_failed`` after a failure here."""
    wanted_by = image.describe()
    engine = await Engine.start(copies.engine, wanted_by)
    lease: leases.Lease | None = None
    try:
        engine.reaper.undo(engine.command(undo))
        lease = await engine.lease(identity, wanted_by, undo)
        container = await make(engine)
        machine = DockerMachine(identity, container, copies, engine, undo, lease)
        try:
            await machine.prepare()
        except MachineError as error:
            raise await _unprepared(engine, container, wanted_by, error) from error
        return machine
    except BaseException as error:
        nothing_made = isinstance(error, EngineSilent)
        await finished(engine.close(lease) if nothing_made else engine.undo(undo_failed, lease))
        if isinstance(error, MachineError) and not isinstance(error, SpawnFailed):
            raise SpawnFailed(wanted_by, str(error)) from error
        raise


async def _unprepared(engine: Engine, container: str, wanted_by: str, error: MachineError) -> SpawnFailed:
    """Why commands cannot run in a container that was started."""
    state = await engine.state(container)
    if state.running:
        return problem(wanted_by, "preparing it", str(error))
    logs = await engine("logs", "--tail", "20", container)
    said = " ".join((logs.stdout + logs.stderr).split()[-50:]) or "it said nothing"
    return SpawnFailed(
        wanted_by, f"what it runs ended at once ({state.text}): {said}", "its command must go on running"
    )


def _lacks_image(stderr: str) -> bool:
    lowered = stderr.lower()
    return "no such image" in lowered or "image not known" in lowered


def _absolute(volume: str) -> str:
    """A volume whose directory on this host is told by a full path: the engine's client starts elsewhere."""
    here, colon, inside = volume.partition(":")
    if here.startswith((".", "~")):
        here = os.path.abspath(os.path.expanduser(here))
    return here + colon + inside
