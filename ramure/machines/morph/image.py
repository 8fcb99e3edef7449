"""Machines on MorphCloud: virtual machines that can be snapshot, forked, paused and resumed with all that runs on them.

The API (``morph_cloud``) makes and ends them; commands and files go over SSH, through the same code as to any other
host (``ssh``), with the instance's own key. A command that was under way when the link broke is not repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from ramure.home import ramure_home
from ramure.machines.base import AGENT, ExecStream, Image, Machine
from ramure.machines.errors import LoginRefused, MachineDown, MachineStopped, SpawnFailed
from ramure.machines.morph.cloud import Cloud, CloudError, Start
from ramure.machines.ssh.config import Target
from ramure.machines.ssh.image import SSHImage, SSHMachine
from ramure.masking import get_logger
from ramure.types import ExecResult

__all__ = ["MorphImage", "MorphInstance", "MorphMachine"]

logger: logging.Logger = get_logger(__name__)

BASE_IMAGE = "morphvm-minimal"
BASE_RESOURCES = {"vcpus": 1, "memory": 2048, "disk_size": 8192}
SSH_LIMIT = 60.0
"""Seconds in which the SSH gateway must let us in to an instance that the API calls ready."""
SIGNS_OF_LIFE = 3
"""How many there are within the TTL."""
FORK_TTL = 3600
"""Seconds after which the snapshot that a fork goes through ends, should it not be deleted before."""


@dataclass(frozen=True)
class MorphImage(Image):
    """A virtual machine on MorphCloud; needs the extra ``ramure[morph]``, and an API key (``api_key``, else
    ``MORPH_API_KEY``, else the profile of the ``morphcloud`` command).

    ``id`` is the snapshot to start from; without one, it is an empty machine of ``base_image`` with these ``vcpus``,
    ``memory`` and ``disk_size`` (both in MB). ``recipe`` are commands to be run on that, once: the snapshot after each
    is kept, and found again by the digest of all that went into it. Another ``version`` makes them run anew.

    The service ends the instance by itself (``ttl_action``: ``"stop"`` or ``"pause"``) when ``ttl_seconds`` went by
    without a sign of life from this program, which gives one each third of it. ``None`` switches that off.

    ``workdir`` is made when missing; without it, commands start in the home directory. ``env`` reaches commands
    through a file of mode 0600, which a snapshot holds too.
    """

    id: str | None = None
    recipe: Sequence[str] = ()
    version: str = ""
    base_image: str = BASE_IMAGE
    vcpus: int | None = None
    memory: int | None = None
    disk_size: int | None = None
    api_key: str | None = field(default=None, repr=False)
    ttl_seconds: int | None = 3600
    ttl_action: Literal["stop", "pause"] = "stop"
    metadata: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.recipe, str):
            raise TypeError(f"recipe is a list of commands, not one string: recipe=[{self.recipe!r}]")
        if self.ttl_seconds is not None and self.ttl_seconds <= 0:
            raise ValueError(f"ttl_seconds is a number of seconds, or None for no end; not {self.ttl_seconds}")
        if self.ttl_action not in ("stop", "pause"):
            raise ValueError(f'ttl_action is "stop" or "pause", not {self.ttl_action!r}')

    def describe(self) -> str:
        return f"MorphCloud, {self.id or self.base_image}" + (f" and {len(self.recipe)} steps" if self.recipe else "")

    async def spawn(self) -> MorphMachine:
        with self.cloud(self) as cloud:
            snapshot, resources = await self._snapshot(cloud)
            what = Start(snapshot, self.metadata, self.ttl_seconds, self.ttl_action, resources)
            started = await cloud.start(what)
            try:
                return await self.connected(cloud, started.id, owned=True)
            except BaseException:
                await _finish(cloud.stop(started.id))
                raise

    def attach(self, instance: str, *, owned: bool = False) -> MorphInstance:
        """An instance that exists, as an image: the machine that is spawned from it is that instance, resumed if it
        was paused. Of this image the key, ``workdir``, ``env`` and TTL count.

        It is borrowed: ``stop()`` leaves it as it is, and its TTL is not touched; unless it is to be ``owned``.
        """
        return MorphInstance(self, instance, owned)

    async def remove(self) -> None:
        """Delete the snapshot ``id``. Machines that were spawned from it go on."""
        if self.id is None:
            raise ValueError("this image has no snapshot of its own (id=)")
        cloud = Cloud.acquire(self.api_key)
        try:
            await cloud.forget(self.id)
        finally:
            cloud.release()

    @contextlib.contextmanager
    def cloud(self, image: Image) -> Iterator[Cloud]:
        """The API for a machine to be made from ``image``, given up again if it does not come to that."""
        cloud = Cloud.acquire(self.api_key)
        try:
            yield cloud
        except CloudError as error:
            cloud.release()
            raise SpawnFailed(image.describe(), f"{error.doing} failed: {error.why}", error.remedy) from error
        except BaseException:
            cloud.release()
            raise

    async def connected(self, cloud: Cloud, instance: str, *, owned: bool) -> MorphMachine:
        """The machine of an instance that runs."""
        host, port, key = await cloud.login(instance)
        way = _Gateway(host, instance, port, workdir=self.workdir or ".", env=self.env, private_key=key)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SSH_LIMIT
        while True:
            try:
                ssh = await way.spawn()
                break
            except (SpawnFailed, LoginRefused) as error:
                # The gateway may learn of it later than the API. What else went wrong does not pass.
                unreachable = isinstance(error, LoginRefused) or isinstance(error.__cause__, (MachineDown, OSError))
                if not unreachable or loop.time() > deadline:
                    raise SpawnFailed(self.describe(), f"{instance} runs, but SSH to it failed: {error}") from error
            await asyncio.sleep(0.5)
        return MorphMachine(self, cloud, instance, ssh, owned=owned)

    # --- what it starts from

    async def _snapshot(self, cloud: Cloud) -> tuple[str, dict[str, int]]:
        """The snapshot to start from, made if need be; and the resources to boot it with, if not its own."""
        asked = {"vcpus": self.vcpus, "memory": self.memory, "disk_size": self.disk_size}
        resources = {name: value for name, value in asked.items() if value is not None}
        if self.id is not None and not self.recipe:
            return self.id, resources
        digests = self._digests(resources)
        async with cloud.building.setdefault(digests[-1], asyncio.Lock()):
            return await self._built(cloud, digests, resources), {}

    def _digests(self, resources: Mapping[str, int]) -> list[str]:
        """The digest of what the recipe starts from, and of the state after each of its steps."""
        origin: list[object] = ["ramure", self.id or self.base_image, sorted(resources.items()), self.version]
        digests = [_digest(origin)]
        for step in self.recipe:
            digests.append(_digest([digests[-1], step]))
        return digests

    async def _built(self, cloud: Cloud, digests: list[str], resources: Mapping[str, int]) -> str:
        done = len(self.recipe)
        while done > 0 and (found := await cloud.find(digests[done])) is None:
            done -= 1
        if done == 0:
            found = self.id or await cloud.base(self.base_image, digests[0], {**BASE_RESOURCES, **resources})
        assert found is not None
        if done == len(self.recipe):
            return found
        start = self.from_snapshot(found, resources if self.id is not None and done == 0 else {})
        cook = await dataclasses.replace(start, ttl_action="stop", workdir=None, env={}).spawn()
        try:
            for number in range(done, len(self.recipe)):
                found = await self._step(cook, number, digests[number + 1])
        finally:
            await _finish(cook.stop())
        return found

    async def _step(self, cook: MorphMachine, number: int, digest: str) -> str:
        """Run a step of the recipe; the id of the snapshot after it."""
        command = self.recipe[number]
        result = await cook.exec(command)
        if not result.ok:
            told = (result.stderr or result.stdout).strip()[-1000:]
            why = f"step {number + 1} of its recipe, `{command}`, exited with status {result.exit_code}"
            raise SpawnFailed(self.describe(), why + (f":\n{told}" if told else ""))
        return await cook.save(digest)

    def from_snapshot(self, snapshot: str, resources: Mapping[str, int] = MappingProxyType({})) -> MorphImage:
        """The same from another snapshot, with that one's resources unless others are given."""
        anew: dict[str, Any] = {**dict.fromkeys(BASE_RESOURCES), **resources}
        return dataclasses.replace(self, id=snapshot, recipe=(), **anew)


@dataclass(frozen=True)
class MorphInstance(Image):
    """An instance that exists already; made by :meth:`MorphImage.attach`."""

    image: MorphImage
    instance: str
    owned: bool

    def describe(self) -> str:
        return f"{self.instance} on MorphCloud"

    async def spawn(self) -> MorphMachine:
        with self.image.cloud(self) as cloud:
            await cloud.resume(self.instance)
            if self.owned and self.image.ttl_seconds is not None:
                await cloud.set_ttl(self.instance, self.image.ttl_seconds, self.image.ttl_action)
            return await self.image.connected(cloud, self.instance, owned=self.owned)


class MorphMachine(Machine):
    """A machine of :class:`MorphImage`."""

    def __init__(self, image: MorphImage, cloud: Cloud, instance: str, ssh: SSHMachine, *, owned: bool) -> None:
        self.image = image
        self.id = instance
        self.workdir: str = ssh.workdir
        self.link_patience: float = ssh.link_patience
        self._cloud = cloud
        self._ssh = ssh
        self._owned = owned
        self._stopped = False
        self._ended = False
        self._running = asyncio.Event()  # not paused by us
        self._running.set()
        self._renewing = asyncio.create_task(self._renew(), name=f"TTL of {instance}") if owned else None

    def describe(self) -> str:
        return f"{self.id} on MorphCloud in {self.workdir}"

    def install_hint(self) -> str:
        return (
            "have a recipe install Node 22.19 or newer, tmux and pi: MorphImage(recipe=[..., "
            "'npm install -g --ignore-scripts @earendil-works/pi-coding-agent'])"
        )

    def terminal(self, argv: Sequence[str]) -> list[str]:
        """By ``ssh``, with a key of yours that MorphCloud knows."""
        return self._ssh.terminal(argv)

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        self._check()
        return await self._ssh.exec(command, user=user, timeout=timeout)

    def stream(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecStream:
        return self._ssh.stream(command, user=user, timeout=timeout)

    async def write_file(self, path: str, data: bytes) -> None:
        self._check()
        await self._ssh.write_file(path, data)

    async def write_private(self, path: str, data: bytes) -> None:
        self._check()
        await self._ssh.write_private(path, data)

    async def read_file(self, path: str) -> bytes:
        self._check()
        return await self._ssh.read_file(path)

    async def ping(self) -> None:
        self._check()
        await self._ssh.ping()

    async def expose_port(self, port: int) -> str:
        """Open a reverse tunnel through the SSH connection that is there: nothing listens on the internet."""
        self._check()
        return await self._ssh.expose_port(port)

    async def expose_http_service(self, name: str, port: int, auth_mode: Literal["api_key"] | None = None) -> str:
        """Publish ``port`` of the machine on the internet, for whoever knows the URL that this returns; with
        ``auth_mode="api_key"``, for whoever shows the account's API key. Harmless when repeated."""
        self._check()
        return await self._cloud.expose(self.id, name, port, auth_mode)

    async def hide_http_service(self, name: str) -> None:
        """Undo :meth:`expose_http_service`. Harmless when repeated."""
        self._check()
        await self._cloud.hide(self.id, name)

    async def pause(self) -> None:
        """Keep the machine as it is, with all that runs on it, and pay for no more than its storage."""
        self._check()
        self._running.clear()
        await self._cloud.pause(self.id)

    async def resume(self) -> None:
        """Go on after :meth:`pause`, or after the service paused it."""
        if self._stopped:
            raise MachineStopped(self.describe())
        await self._cloud.resume(self.id)
        self._running.set()
        await self._sign_of_life()

    async def fork(self) -> MorphMachine:
        """A second machine in the same state, by way of a snapshot, which is deleted again. (The API's own ``branch``
        starts a machine without a TTL, which would run for ever if this program died just then.)"""
        self._check()
        saved = await self.save(ttl_seconds=FORK_TTL)
        try:
            return await self._like_this(saved).spawn()
        finally:
            await _finish(self._cloud.forget(saved))

    async def snapshot(self) -> MorphImage:
        """An image that starts in the machine's present state. It costs storage until its ``remove()``."""
        self._check()
        return self._like_this(await self.save())

    async def save(self, digest: str | None = None, ttl_seconds: int | None = None) -> str:
        """Make a snapshot; its id."""
        return await self._cloud.save(self.id, metadata=self.image.metadata, digest=digest, ttl_seconds=ttl_seconds)

    def _like_this(self, snapshot: str) -> MorphImage:
        return dataclasses.replace(self.image.from_snapshot(snapshot), workdir=self.workdir)

    async def wait_down(self) -> str:
        """Return when the machine could not be reached for a minute, though nobody paused it."""
        while True:
            seen = await self._ssh.wait_down()
            if self._stopped:
                return "it was stopped"
            if self._running.is_set():
                return f"{seen} (MorphCloud: {await self._status()})"
            await self._running.wait()

    async def _status(self) -> str:
        try:
            return f"it is {(await self._cloud.get(self.id)).status}"
        except CloudError as error:
            return "there is no such instance any more" if error.status == 404 else error.why

    async def _renew(self) -> None:
        """The dead man's switch: without these signs of life, the service ends the instance."""
        if self.image.ttl_seconds is None:
            return
        pause = self.image.ttl_seconds / SIGNS_OF_LIFE
        while True:
            await asyncio.sleep(pause)
            try:
                await self._sign_of_life()
            except CloudError as error:
                if error.status == 404:  # it is gone, as wait_down() tells
                    return
                logger.warning("%s: %s", self.describe(), error)

    async def _sign_of_life(self) -> None:
        if self._owned and self.image.ttl_seconds is not None:
            await self._cloud.set_ttl(self.id, self.image.ttl_seconds, self.image.ttl_action)

    async def stop(self) -> None:
        """End the instance. Raises :class:`CloudError` when that failed (its TTL ends it then); may be repeated."""
        if not self._ended:
            self._stopped = self._ended = True
            await _finish(self._end())

    async def _end(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        try:
            await self._ssh.stop()
        finally:
            if self._owned:
                try:
                    await self._cloud.stop(self.id)
                except CloudError:
                    self._ended = False
                    raise
            self._cloud.release()

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())
        if not self._running.is_set():
            raise MachineDown(self.describe(), "it is paused; resume() it")


@dataclass(frozen=True)
class _Gateway(SSHImage):
    """An instance, by way of the service's SSH gateway. The service publishes no host keys: the first one that it
    shows is kept in ramure's home, and any other refused from then on."""

    private_key: str = field(default="", repr=False)
    abandon_after: float | None = None
    """The instance's own switch sees to that; and in a fork nobody would give signs of life."""

    def _target(self) -> Target:
        known_hosts = (str(ramure_home() / "morph_known_hosts"),)
        return Target(
            self.host, self.user or "", self.port or 22, known_hosts=known_hosts, dead_after=self.dead_after,
            private_key=self.private_key, strict="accept-new",
        )  # fmt: skip


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, also when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("%s", failure)  # the caller gets the cancellation
        raise
