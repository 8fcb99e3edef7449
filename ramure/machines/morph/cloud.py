"""MorphCloud's API through its SDK, whose calls block: one client an account and event loop, on a few threads.

What this adds to the SDK: a bound on every request, errors that say what to do, and retries by which nothing is made
twice. A request that makes something (an instance, a snapshot) carries a mark in its metadata; when its answer is
lost, the mark is looked for before it is sent again.

Commands do not go through the API's ``exec``: it turns bytes into text, cannot end a command, and the SDK sends it
again when a connection breaks, so that a command may run twice. They go over SSH (see ``morph``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ramure.machines.errors import MachineError
from ramure.masking import masked

if TYPE_CHECKING:
    from morphcloud.api import Instance, MorphCloudClient, Snapshot

__all__ = ["MARK", "Cloud", "CloudError", "Start"]

T = TypeVar("T")

THREADS = 16
REQUEST_LIMIT = 180.0
"""Seconds for one request; the SDK's own client waits for ever."""
READY_LIMIT = 600.0
"""Seconds in which an instance or a snapshot must become ready."""
PAUSES = (0.25, 1.0, 3.0)
"""Seconds before each further try of a request that failed for a reason that may pass."""
PASSING = (429, 500, 502, 503, 504)
MARK = "ramure-id"
SHARDS = "MORPH_HTTP_TRANSPORT_SHARDS"


class CloudError(MachineError):
    """MorphCloud refused a request, or could not be reached. ``status`` is HTTP's, 0 without an answer;
    ``remedy`` is what to do about it, if that is known."""

    def __init__(self, doing: str, why: str, *, status: int = 0, remedy: str = "") -> None:
        self.doing = doing
        self.why = why
        self.status = status
        self.remedy = remedy
        super().__init__(f"{doing} on MorphCloud failed: {why}" + (f"; {remedy}" if remedy else ""))


@dataclass(frozen=True)
class Start:
    """What an instance is started with. ``resources`` other than the snapshot's own boot it anew."""

    snapshot: str
    metadata: Mapping[str, str]
    ttl_seconds: int | None
    ttl_action: str
    resources: Mapping[str, int]


class Cloud:
    """The API for one account, on one event loop. Shared by all that :meth:`acquire` it; ends with the last
    :meth:`release`."""

    _live: ClassVar[dict[tuple[object, ...], Cloud]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: tuple[object, ...], api_key: str | None) -> None:
        self._key = key
        self._api_key = api_key
        self._users = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="morph")
        self._making = threading.Lock()
        self._made: MorphCloudClient | None = None
        self.building: dict[str, asyncio.Lock] = {}
        """One for each recipe that is being built, so that machines that are spawned at once build it once."""

    @classmethod
    def acquire(cls, api_key: str | None) -> Cloud:
        """The one for this key and the present settings (``MORPH_...`` in the environment)."""
        names = sorted(name for name in os.environ if name.startswith("MORPH_") and name != SHARDS)
        settings = tuple((name, os.environ[name]) for name in names)
        key = (asyncio.get_running_loop(), api_key, settings)
        with cls._lock:
            cloud = cls._live.get(key)
            if cloud is None:
                cloud = cls._live[key] = cls(key, api_key)
            cloud._users += 1
            return cloud

    def release(self) -> None:
        """Give up one use."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            del self._live[self._key]
        client = self._made
        if client is not None:
            self._threads.submit(client._http_client.close)
        self._threads.shutdown(wait=False)

    # --- what machines ask for

    async def start(self, what: Start) -> Instance:
        """A running instance. If the caller leaves meanwhile, it is stopped again."""
        return await self._call(
            "starting an instance", functools.partial(_start, what), undo=lambda instance: _patiently(instance.stop)
        )

    async def get(self, instance: str) -> Instance:
        return await self._call(f"looking for {instance}", _again(lambda client: client.instances.get(instance)))

    async def stop(self, instance: str) -> None:
        """End it; one that is gone already is no error."""
        try:
            await self._call(f"stopping {instance}", _again(lambda client: client.instances.stop(instance)))
        except CloudError as error:
            if error.status != 404:
                raise

    async def resume(self, instance: str) -> Instance:
        """Resume it if it is paused, and wait until it is ready."""

        def work(client: MorphCloudClient) -> Instance:
            found = _patiently(lambda: client.instances.get(instance))
            if found.status == "paused":
                _patiently(found.resume)
            found.wait_until_ready(READY_LIMIT)
            return found

        return await self._call(f"resuming {instance}", work)

    async def pause(self, instance: str) -> None:
        await self._call(f"pausing {instance}", _again(lambda client: client.instances.get(instance).pause()))

    async def set_ttl(self, instance: str, seconds: int, action: str) -> None:
        def work(client: MorphCloudClient) -> None:
            client.instances.get(instance).set_ttl(seconds, "pause" if action == "pause" else "stop")

        await self._call(f"renewing the TTL of {instance}", _again(work))

    async def login(self, instance: str) -> tuple[str, int, str]:
        """Where its SSH is, and the private key for it. The key is the instance's own: with it, the account's API
        key is not shown to the SSH gateway."""

        def work(client: MorphCloudClient) -> tuple[str, int, str]:
            key = client.instances.get(instance).ssh_key().private_key
            return client.ssh_hostname, client.ssh_port, key

        return await self._call(f"fetching the SSH key of {instance}", _again(work))

    async def save(
        self, instance: str, *, metadata: Mapping[str, str], digest: str | None = None, ttl_seconds: int | None = None
    ) -> str:
        """A snapshot of a running instance; its id."""
        mark = uuid.uuid4().hex

        def work(client: MorphCloudClient) -> str:
            marked = {**metadata, MARK: mark}
            saved = _patiently(
                lambda: client.instances.get(instance).snapshot(digest, marked, ttl_seconds),
                lambda: client.snapshots.list(metadata={MARK: mark}),
            )
            saved.wait_until_ready(READY_LIMIT)
            return saved.id

        return await self._call(f"the snapshot of {instance}", work)

    async def base(self, image: str, digest: str, resources: Mapping[str, int]) -> str:
        """The snapshot of an empty machine; its id. The service makes one for a digest."""

        def make(client: MorphCloudClient) -> Snapshot:
            return client.snapshots.create(image_id=image, digest=digest, metadata={MARK: digest}, **resources)

        return (await self._call(f"making a machine of the image {image!r}", _again(make))).id

    async def find(self, digest: str) -> str | None:
        """The id of the snapshot with this digest, if there is one that can be used."""

        def work(client: MorphCloudClient) -> str | None:
            found = client.snapshots.list(digest=digest)
            return next((snapshot.id for snapshot in found if snapshot.status == "ready"), None)

        return await self._call("looking for a snapshot", _again(work))

    async def forget(self, snapshot: str) -> None:
        """Delete a snapshot; one that is gone already is no error."""
        try:
            await self._call(f"deleting {snapshot}", _again(lambda client: client.snapshots.get(snapshot).delete()))
        except CloudError as error:
            if error.status != 404:
                raise

    async def expose(self, instance: str, name: str, port: int, auth_mode: str | None) -> str:
        """The URL of an HTTP service; one that is there already with this port is the same."""

        def work(client: MorphCloudClient) -> str:
            found = client.instances.get(instance)
            for service in found.networking.http_services:
                if service.name == name and service.port == port:
                    return service.url
            return found.expose_http_service(name, port, auth_mode)

        return await self._call(f"exposing port {port} of {instance} as {name!r}", _again(work))

    async def hide(self, instance: str, name: str) -> None:
        def work(client: MorphCloudClient) -> None:
            found = client.instances.get(instance)
            if any(service.name == name for service in found.networking.http_services):
                found.hide_http_service(name)

        await self._call(f"hiding {name!r} of {instance}", _again(work))

    # --- threads, and the client

    async def _call(
        self, doing: str, work: Callable[[MorphCloudClient], T], undo: Callable[[T], object] | None = None
    ) -> T:
        running = self._threads.submit(self._run, doing, work)
        waiting = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits any more
            if undo is not None and not running.cancel():
                with self._lock:
                    self._users += 1  # the threads are needed until it is undone
                running.add_done_callback(lambda made: self._threads.submit(self._undo, made, undo))
            raise

    def _run(self, doing: str, work: Callable[[MorphCloudClient], T]) -> T:
        try:
            return work(self._client())
        except CloudError:
            raise
        except Exception as error:
            raise self._explained(doing, error) from None  # the cause may hold a request with the key

    def _undo(self, made: Future[T], undo: Callable[[T], object]) -> None:
        try:
            if made.exception() is None:
                undo(made.result())
        finally:
            self.release()

    def _client(self) -> MorphCloudClient:
        with self._making:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> MorphCloudClient:
        try:
            from morphcloud.api import MorphCloudClient
        except ImportError as error:
            remedy = "install it with `pip install 'ramure[morph]'`"
            raise CloudError("the first call", f"its SDK is not there ({error})", remedy=remedy) from error
        with _environment(SHARDS, "1"):  # else it makes 32 connection pools, which takes two seconds
            try:
                client = MorphCloudClient(api_key=self._api_key)
            except ValueError as error:
                remedy = "pass api_key=, or set MORPH_API_KEY"
                raise CloudError("the first call", "there is no API key", remedy=remedy) from error
        client._http_client.timeout = REQUEST_LIMIT
        return client

    def _explained(self, doing: str, error: Exception) -> CloudError:
        status = getattr(error, "status_code", 0)
        body = getattr(error, "response_body", "")
        why = _detail(body) or str(error) or type(error).__name__
        secret = self._made.api_key if self._made is not None else None
        why = masked(why, [secret] if secret else [])
        remedy = ""
        if status in (401, 403):
            remedy = "is the API key right (api_key=, MORPH_API_KEY)?"
        elif status in (402, 429) or "quota" in why.lower():
            remedy = "stop what is not needed any more (`morphcloud instance list`), or ask for a higher quota"
        elif not status and _passes(error):
            remedy = "is there a connection to the internet?"
        return CloudError(doing, f"{why} (HTTP {status})" if status else why, status=status, remedy=remedy)


def _start(what: Start, client: MorphCloudClient) -> Instance:
    mark = uuid.uuid4().hex
    options: dict[str, Any] = {
        "metadata": {**what.metadata, MARK: mark}, "ttl_seconds": what.ttl_seconds, "ttl_action": what.ttl_action,
    }  # fmt: skip

    def make() -> Instance:
        if what.resources:
            return client.instances.boot(what.snapshot, **{**what.resources, **options})
        return client.instances.start(what.snapshot, timeout=READY_LIMIT, **options)

    instance = _patiently(make, lambda: client.instances.list(metadata={MARK: mark}))
    try:
        instance.wait_until_ready(READY_LIMIT)
    except BaseException:
        _patiently(instance.stop)
        raise
    return instance


def _again(work: Callable[[MorphCloudClient], T]) -> Callable[[MorphCloudClient], T]:
    """``work``, which may be done twice, tried again when it fails for a reason that may pass."""
    return lambda client: _patiently(lambda: work(client))


def _patiently(work: Callable[[], T], made: Callable[[], list[T]] | None = None) -> T:
    """Try again what failed for a reason that may pass. Where ``made`` finds what an earlier try has made, though
    its answer was lost, that is it."""
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if not _passes(error):
                raise
        time.sleep(pause)
        found = _patiently(made) if made is not None else []
        if found:
            return found[0]
    return work()


def _passes(error: Exception) -> bool:
    import httpx

    status = getattr(error, "status_code", 0)
    if status:
        return status in PASSING and "quota" not in str(error).lower()
    return isinstance(error, httpx.TransportError)


def _detail(body: str) -> str:
    """What an error's JSON says."""
    try:
        told = json.loads(body)
    except ValueError:
        return body.strip()[:500]
    detail = told.get("detail") if isinstance(told, dict) else None
    return str(detail or told)[:500]


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment, unless it is set, while something that reads it is made."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
