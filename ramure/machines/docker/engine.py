"""The command line of a container engine (docker, podman), run below a reaper.

The command line was taken, not the Docker SDK for Python: it honours contexts, ``DOCKER_HOST`` over SSH and
credential helpers as the user's own shell does; podman needs no service for it; the time of a call is the engine's
either way (70 ms for an exec, of which the client's processor time is 10); it blocks no thread, and what it runs ends
with the reaper, so with this program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ramure.executor import in_thread
from ramure.machines.commands import end, texts
from ramure.machines.docker.undo import MACHINE, Undoing, command
from ramure.machines.errors import MachineError, SpawnFailed
from ramure.machines.reaper import leases
from ramure.machines.reaper.leases import UNDO_LIMIT, Lease
from ramure.machines.reaper.reaper import Reaper, finished
from ramure.marks import marked_run
from ramure.masking import get_logger
from ramure.types import ExecResult

__all__ = [
    "COMMIT",
    "MACHINE",
    "RUN",
    "Engine",
    "EngineSilent",
    "State",
    "find_engine",
    "problem",
]

RUN = "ramure.run"
COMMIT = "ramure.commit"
"""Labels of what is made, beside MACHINE: of which run it is, and which commit an image is."""

logger: logging.Logger = get_logger(__name__)

ENGINES = ("docker", "podman")


def find_engine(engine: str | Sequence[str] | None, wanted_by: str) -> list[str]:
    """The command of the engine, its program with its full path. Raises :class:`SpawnFailed`."""
    if engine is None:
        found = next(filter(None, map(shutil.which, ENGINES)), None)
        if found is None:
            remedy = "install one (Debian, Ubuntu: the package docker.io or podman), or name another with engine="
            raise SpawnFailed(wanted_by, "there is no docker and no podman on the PATH", remedy)
        return [found]
    name, *arguments = [engine] if isinstance(engine, str) else engine
    found = shutil.which(name)
    if found is None:
        raise SpawnFailed(wanted_by, f"there is no {name!r} on the PATH", "install it, or name another with engine=")
    return [found, *arguments]


class EngineSilent(SpawnFailed):
    """Nobody answered, so nothing was made."""


@dataclass(frozen=True, slots=True)
class State:
    """What the engine says about a container."""

    running: bool
    text: str
    """The state, for people."""
    details: dict[str, Any]


class Engine:
    """One machine's way to its engine."""

    def __init__(self, argv: Sequence[str], reaper: Reaper) -> None:
        self.argv: list[str] = list(argv)
        self.reaper = reaper

    @classmethod
    async def start(cls, engine: str | Sequence[str] | None, wanted_by: str) -> Engine:
        """Find the engine's command, and start the reaper for it. Raises :class:`SpawnFailed`."""
        argv = await in_thread(find_engine, engine, wanted_by)
        try:
            return cls(argv, await Reaper.start(wanted_by, env=os.environ))
        except OSError as error:
            raise SpawnFailed(wanted_by, f"its reaper process did not start: {error}") from error

    async def __call__(self, *arguments: str, stdin: int | None = None, timeout: float | None = 60.0) -> ExecResult:
        """Run one command of the engine. Raises :class:`MachineError` when it takes longer than ``timeout``."""
        return await self.run([*self.argv, *arguments], stdin=stdin, timeout=timeout)

    async def run(self, argv: Sequence[str], *, stdin: int | None = None, timeout: float | None = 60.0) -> ExecResult:
        """Run a command on this host, below the reaper."""
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        running = await self.reaper.run(
            argv, cwd="/", sink=lambda source, data: output[source].append(data), stdin=stdin
        )
        try:
            async with asyncio.timeout(timeout):
                code = await running.wait()
        except TimeoutError:
            await end(running)
            name = os.path.basename(self.argv[0])
            raise MachineError(f"`{name}` had no answer from its engine for {timeout:g} s") from None
        except asyncio.CancelledError:
            await end(running)
            raise
        return ExecResult(*await texts(output), code)

    async def state(self, container: str) -> State:
        """How the container is. Raises :class:`MachineError` when the engine does not say."""
        result = await self("container", "inspect", container, timeout=10.0)
        if not result.ok:
            if "no such container" in result.stderr.lower():
                return State(False, "it has been removed", {})
            raise MachineError(f"the engine does not answer: {complaint(result.stderr)}")
        details: dict[str, Any] = json.loads(result.stdout)[0]
        state = details["State"]
        if state["Running"]:
            return State(True, "it runs", details)
        why = f"its container ended with status {state.get('ExitCode')}"
        if state.get("OOMKilled"):
            why += " (out of memory)"
        if state.get("Error"):
            why += f": {state['Error']}"
        return State(False, why, details)

    async def lease(self, identity: str, what: str, undo: Undoing) -> Lease:
        """Write down that ``what`` is about to be made, and how it is undone; not when this is cancelled."""
        fields = undo.fields(self.argv)
        taking = asyncio.ensure_future(in_thread(leases.take, identity, what, undo.kind, fields, run=marked_run()))
        try:
            return await finished(taking)
        except asyncio.CancelledError:
            if not taking.cancelled() and taking.exception() is None:
                await finished(in_thread(taking.result().release))
            raise

    def command(self, undo: Undoing) -> list[str]:
        """The command that undoes it."""
        return command(self.argv, undo)

    async def undo(self, what: Undoing, lease: Lease | None) -> None:
        """End what the machine made, then the reaper. Where that fails, the lease stays, so that it can be done
        later."""
        try:
            result = await self.run(self.command(what), timeout=UNDO_LIMIT)
            failure = "" if result.ok else complaint(result.stderr)
        except MachineError as error:
            failure = str(error)
        if failure:
            logger.warning("a container could not be ended, `ramure gc` will: %s", failure)
            if lease is not None:
                await in_thread(lease.leave)
        await self.close(lease if not failure else None)

    async def close(self, lease: Lease | None) -> None:
        """End the reaper, when there is nothing to undo (any more)."""
        await self.reaper.stop()
        if lease is not None:
            await in_thread(lease.release)


_SILENCE = (
    (
        ("cannot connect to", "failed to connect to", "is the docker daemon running", "unable to connect to podman"),
        "the engine does not answer",
        "start it (`systemctl start docker`), or say where it is (DOCKER_HOST, `docker context use`, engine=)",
    ),
    (
        ("permission denied while trying to connect",),
        "you may not use the engine",
        "join the group that may (as a rule `docker`), or use podman, which needs no service",
    ),
)
_PROBLEMS = (
    (("no space left on device", "disk quota exceeded"), "the engine's disk is full", "make room (`docker system prune`)"),
    (
        ("no such image", "image not known", "manifest unknown", "pull access denied", "repository does not exist"),
        "there is no such image",
        "check the name, log in to its registry, or build it",
    ),
    (("/bin/sh",), "the image has no /bin/sh", "ramure needs a shell in it, and tmux for agents"),
    (("already in use by",), "the name is taken", "choose another name=, or remove the container that has it"),
)  # fmt: skip


def problem(image: str, doing: str, stderr: str) -> SpawnFailed:
    """The engine's refusal as an error that says what to do."""
    lowered = stderr.lower()
    for kind, table in ((EngineSilent, _SILENCE), (SpawnFailed, _PROBLEMS)):
        for patterns, what, remedy in table:
            if any(pattern in lowered for pattern in patterns):
                return kind(image, f"{what}: {complaint(stderr)}", remedy)
    return SpawnFailed(image, f"{doing} failed: {complaint(stderr)}")


def complaint(stderr: str) -> str:
    """The line of an engine's message that says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    others = [line for line in lines if not line.startswith("WARNING")]
    return next(iter(errors or others or lines), "it said nothing")
