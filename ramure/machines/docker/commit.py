"""Images that machines were committed to: forks and snapshots."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ramure.executor import in_thread
from ramure.forks import finalizer
from ramure.machines.base import Image
from ramure.machines.docker.engine import COMMIT, RUN, Engine, complaint
from ramure.machines.docker.undo import MACHINE, Undoing, command
from ramure.machines.errors import CopyFailed, SpawnFailed
from ramure.machines.reaper import leases
from ramure.machines.reaper.reaper import finished
from ramure.marks import marked_run

if TYPE_CHECKING:
    from ramure.machines.docker.image import DockerImage
    from ramure.machines.docker.machine import DockerMachine

__all__ = ["Commit", "DockerSnapshot"]

COMMIT_LIMIT = 600.0


class Commit:
    """An image of ours. It is removed when nobody holds it any more: the engine keeps one that a container uses."""

    def __init__(self, argv: Sequence[str], reference: str, lease: leases.Lease) -> None:
        self.reference = reference
        self._removal = command(argv, Undoing("container image", reference))
        self._lease = lease
        self._holders = 1
        self._lock = threading.Lock()

    @classmethod
    async def make(cls, engine: Engine, container: str, machine: str) -> Commit:
        """Commit a container. Raises :class:`CopyFailed`, and then nothing is left."""
        identity = uuid.uuid4().hex[:12]
        reference = f"ramure-commit:{identity}"
        run = marked_run()
        # A container's labels go into its image, and from there into containers that are none of our machines.
        labels = {COMMIT: identity, MACHINE: "", RUN: run}
        changes = [part for name, value in labels.items() for part in ("--change", f'LABEL {name}="{value}"')]
        undo = Undoing("container image", reference)
        what = f"an image of {machine}"
        lease = await engine.lease(identity, what, undo)
        commit = cls(engine.argv, reference, lease)
        try:
            done = await finished(engine("commit", *changes, container, reference, timeout=COMMIT_LIMIT))
        except BaseException:
            await finished(commit.release())
            raise
        if not done.ok:
            await finished(commit.release())
            raise CopyFailed(f"{machine} could not be committed: {complaint(done.stderr)}")
        return commit

    def hold(self) -> None:
        """Once more."""
        with self._lock:
            self._holders += 1

    async def release(self) -> None:
        """One holder less; the last one removes the image."""
        await in_thread(self.drop)

    def drop(self) -> None:
        """As :meth:`release`; blocks."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            done = subprocess.run(
                self._removal, stdin=subprocess.DEVNULL, capture_output=True, timeout=leases.UNDO_LIMIT, check=False
            )
            if done.returncode == 0:
                self._lease.release()
            else:  # so that it can be removed later
                self._lease.leave()


class DockerSnapshot(Image):
    """A committed container, from which machines start. :meth:`remove` ends it; so does the end of this program.
    ``image`` is its name for the engine: what you tag with a name of your own stays."""

    def __init__(self, parent: DockerMachine, copies: DockerImage, commit: Commit) -> None:
        self._what = f"a snapshot of {parent.describe()}"
        self._copies = copies
        self._commit = commit
        self.image: str = commit.reference
        self._finalizer = finalizer(self, _drop_elsewhere, commit)

    def describe(self) -> str:
        return self._what

    async def spawn(self) -> DockerMachine:
        if not self._finalizer.alive:
            raise SpawnFailed(self.describe(), "it has been removed")
        return await self._copies.spawn_from(self._commit)

    async def remove(self) -> None:
        """Remove the image, once the machines that were spawned from it have stopped."""
        if self._finalizer.detach() is not None:
            await self._commit.release()


def _drop_elsewhere(commit: Commit) -> None:
    """The snapshot is no longer referenced: this may be on an event loop, which must not wait for the engine."""
    try:
        threading.Thread(target=commit.drop, name=f"remove {commit.reference}").start()
    except RuntimeError:  # at the interpreter's end no thread starts any more
        commit.drop()
