"""A fake of MorphCloud on this host: its HTTP API and its SSH gateway, for the real SDK and the real SSH client.

What it must get right was taken from the SDK's own code: the endpoints and fields, errors as JSON with a status, 409
for a second HTTP service of one name, a TTL that stops or pauses, snapshots found by digest and metadata, and SSH with
the user ``<instance>:<api key>`` (any key) or ``<instance>`` (the key that the API gives out for it).
It runs on a thread with an event loop of its own. ``faults`` lets a test see what happens when it fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import asyncssh

from ramure.testing.http1 import HttpRequest, Responder, http_server
from tests.machines.morph_vm import Vm, VmFiles, copy_root, new_root, serve_session

T = TypeVar("T")
Json = dict[str, Any]

KEY = "morph_test_key_of_the_fake"
BASE_IMAGE = "morphvm-minimal"


@dataclass
class Snapshot:
    id: str
    root: Path
    image: str
    spec: Json
    digest: str | None = None
    metadata: Json = field(default_factory=dict)
    ttl: int | None = None

    def json(self) -> Json:
        return {
            "id": self.id, "object": "snapshot", "created": int(time.time()), "status": "ready", "spec": self.spec,
            "refs": {"image_id": self.image}, "digest": self.digest, "metadata": self.metadata,
            "ttl": {"ttl_seconds": self.ttl},
        }  # fmt: skip


@dataclass
class Instance:
    id: str
    root: Path
    snapshot: Snapshot
    spec: Json
    key: asyncssh.SSHKey
    ready_at: float
    metadata: Json = field(default_factory=dict)
    ttl: int | None = None
    ttl_action: str = "stop"
    paused: bool = False
    services: dict[str, int] = field(default_factory=dict)
    vm: Vm | None = None
    expiry: asyncio.TimerHandle | None = None
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    @property
    def status(self) -> str:
        return "paused" if self.paused else "ready" if time.monotonic() >= self.ready_at else "pending"

    def json(self) -> Json:
        services = [
            {"name": n, "port": p, "url": f"https://{n}-{self.id}.http.invalid"} for n, p in self.services.items()
        ]
        return {
            "id": self.id, "object": "instance", "created": int(time.time()), "status": self.status, "spec": self.spec,
            "refs": {"snapshot_id": self.snapshot.id, "image_id": self.snapshot.image},
            "networking": {"internal_ip": "127.0.0.1", "http_services": services},
            "ttl": {"ttl_seconds": self.ttl, "ttl_action": self.ttl_action}, "metadata": self.metadata,
        }  # fmt: skip


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose ``METHOD path`` matches: a status instead of the answer, or
    the connection is cut, before the request takes effect (``early``) or after (``late``)."""

    pattern: str
    how: int | Literal["early", "late"]
    times: int = 1
    body: Json = field(default_factory=lambda: {"detail": "the fake says no"})


class Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class MorphFake:
    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.instances: dict[str, Instance] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.logins: list[str] = []
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.boot_seconds = 0.0
        self.quota = 1000
        self.tunnels = True
        self.shares: list[Path] = []
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.base_url = ""
        self.ssh_port = 0
        self.failures: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="morph fake", daemon=True)
        self._up = threading.Event()
        self._end = asyncio.Event()

    # --- from the test's thread

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[MorphFake]:
        fake = cls()
        fake._thread.start()
        assert fake._up.wait(30)
        try:
            yield fake
        finally:
            fake._loop.call_soon_threadsafe(fake._end.set)
            fake._thread.join(30)
        assert not fake.failures, fake.failures

    def environment(self) -> dict[str, str]:
        """What the SDK reads to find it."""
        return {
            "MORPH_API_KEY": KEY, "MORPH_BASE_URL": self.base_url, "MORPH_SSH_HOSTNAME": "127.0.0.1",
            "MORPH_SSH_PORT": str(self.ssh_port), "MORPH_CONFIG_PATH": "/nonexistent",
        }  # fmt: skip

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def snapshot(self, **spec: int) -> str:
        """Make an empty snapshot; its id."""

        async def make() -> str:
            return self._new_snapshot(new_root(), BASE_IMAGE, _spec(spec)).id

        return self.do(make())

    def end_instance(self, identity: str) -> None:
        """The instance goes, as when somebody else stops it."""
        self.do(self._stop(self.instances[identity]))

    def pause_instance(self, identity: str) -> None:
        self.do(self._pause(self.instances[identity]))

    def cut(self, identity: str) -> None:
        """The instance's SSH connections break."""

        async def abort() -> None:
            for connection in list(self.instances[identity].connections):
                connection.abort()

        self.do(abort())

    def count(self, pattern: str) -> int:
        """How many requests were made that match."""
        return sum(re.fullmatch(pattern, request) is not None for request in self.requests)

    # --- on its own

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        acceptor = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[self.host_key], server_factory=lambda: Gateway(self), encoding=None,
            process_factory=self._session, sftp_factory=self._files, allow_scp=False, window=1 << 24,
        )  # fmt: skip
        async with http_server(self._answer, self.failures.append, "127.0.0.1", 0) as http:
            self.base_url = f"http://127.0.0.1:{http.address[1]}/api"
            self.ssh_port = acceptor.get_port()
            self._up.set()
            await self._end.wait()
        for instance in list(self.instances.values()):
            await self._stop(instance)
        for snapshot in self.snapshots.values():
            shutil.rmtree(snapshot.root)
        acceptor.close()
        await acceptor.wait_closed()
        for connection in list(self.connections):
            connection.abort()
            await connection.wait_closed()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        if under_way:
            await asyncio.wait(under_way, timeout=10)

    async def _session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        vm = self.instances[process.get_extra_info("username").partition(":")[0]].vm
        assert vm is not None
        await serve_session(process, vm)

    def _files(self, chan: asyncssh.SSHServerChannel[bytes]) -> VmFiles:
        return VmFiles(chan, self.instances[chan.get_extra_info("username").partition(":")[0]].root)

    async def _answer(self, request: HttpRequest, responder: Responder) -> None:
        url = urllib.parse.urlsplit(request.path)
        line = f"{request.method} {url.path.removeprefix('/api')}"
        self.requests.append(line)
        fault = self._fault(line)
        if fault is not None and fault.how == "early":
            return responder.cut()
        try:
            if fault is not None and isinstance(fault.how, int):
                return await responder.reply(fault.how, json.dumps(fault.body).encode())
            if request.headers.get("authorization") != f"Bearer {KEY}":
                raise Refused(401, "Invalid API key")
            query = dict(urllib.parse.parse_qsl(url.query))
            body = json.loads(request.body or b"{}")
            answer = await asyncio.shield(asyncio.ensure_future(self._route(line, query, body)))
        except Refused as refused:
            return await responder.reply(refused.status, json.dumps({"detail": str(refused)}).encode())
        if fault is not None:
            return responder.cut()
        return await responder.reply(200, json.dumps(answer).encode())

    def _fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if re.fullmatch(fault.pattern, line):
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None

    async def _route(self, line: str, query: Json, body: Json) -> Json:
        for pattern, handler in ROUTES:
            match = re.fullmatch(pattern, line)
            if match is not None:
                return await handler(self, query, body, *match.groups())
        raise Refused(404, f"no such endpoint: {line}")

    def _new_snapshot(self, root: Path, image: str, spec: Json, body: Json | None = None, **more: Any) -> Snapshot:
        body = body or {}
        made = Snapshot(
            f"snapshot_{uuid.uuid4().hex[:8]}", root, image, spec,
            metadata=body.get("metadata") or {}, ttl=body.get("ttl_seconds"), **more,
        )  # fmt: skip
        self.snapshots[made.id] = made
        return made

    def _snapshot(self, identity: str) -> Snapshot:
        if identity not in self.snapshots:
            raise Refused(404, f"Snapshot {identity} not found")
        return self.snapshots[identity]

    def _instance(self, identity: str) -> Instance:
        if identity not in self.instances:
            raise Refused(404, f"Instance {identity} not found")
        return self.instances[identity]

    async def create_snapshot(self, _: Json, body: Json) -> Json:
        digest = body.get("digest")
        for snapshot in self.snapshots.values():
            if digest is not None and snapshot.digest == digest:
                return snapshot.json()
        if body.get("image_id") != BASE_IMAGE:
            raise Refused(404, f"Image {body.get('image_id')} not found")
        return self._new_snapshot(new_root(), BASE_IMAGE, _spec(body), body, digest=digest).json()

    async def list_snapshots(self, query: Json, _: Json) -> Json:
        found = [
            snapshot.json()
            for snapshot in self.snapshots.values()
            if query.get("digest") in (None, snapshot.digest) and _has(snapshot.metadata, query)
        ]
        return {"object": "list", "data": found}

    async def get_snapshot(self, _: Json, __: Json, identity: str) -> Json:
        return self._snapshot(identity).json()

    async def delete_snapshot(self, _: Json, __: Json, identity: str) -> Json:
        shutil.rmtree(self._snapshot(identity).root)
        del self.snapshots[identity]
        return {}

    async def boot(self, _: Json, body: Json, identity: str) -> Json:
        snapshot = self._snapshot(identity)
        return (await self._start(snapshot, body, {**snapshot.spec, **_spec(body, snapshot.spec)})).json()

    async def start(self, query: Json, body: Json) -> Json:
        snapshot = self._snapshot(query["snapshot_id"])
        return (await self._start(snapshot, body, snapshot.spec)).json()

    async def _start(self, snapshot: Snapshot, body: Json, spec: Json, root: Path | None = None) -> Instance:
        if len(self.instances) >= self.quota:
            raise Refused(402, "Instance quota exceeded for this organization")
        root = root or await asyncio.to_thread(copy_root, snapshot.root)
        instance = Instance(
            f"morphvm_{uuid.uuid4().hex[:8]}", root, snapshot, spec, asyncssh.generate_private_key("ssh-ed25519"),
            time.monotonic() + self.boot_seconds, body.get("metadata") or {},
        )  # fmt: skip
        instance.vm = await Vm.start(root, self.shares)
        self.instances[instance.id] = instance
        self._set_ttl(instance, body)
        return instance

    def _set_ttl(self, instance: Instance, body: Json) -> None:
        if instance.expiry is not None:
            instance.expiry.cancel()
            instance.expiry = None
        instance.ttl = body.get("ttl_seconds")
        instance.ttl_action = body.get("ttl_action") or instance.ttl_action
        if instance.ttl is not None:
            end = self._pause if instance.ttl_action == "pause" else self._stop
            instance.expiry = self._loop.call_later(instance.ttl, lambda: self._loop.create_task(end(instance)))

    async def list_instances(self, query: Json, _: Json) -> Json:
        found = [instance.json() for instance in self.instances.values() if _has(instance.metadata, query)]
        return {"object": "list", "data": found}

    async def get_instance(self, _: Json, __: Json, identity: str) -> Json:
        return self._instance(identity).json()

    async def delete_instance(self, _: Json, __: Json, identity: str) -> Json:
        await self._stop(self._instance(identity))
        return {}

    async def _stop(self, instance: Instance) -> None:
        if self.instances.pop(instance.id, None) is None:
            return
        await self._halt(instance)
        shutil.rmtree(instance.root)

    async def _halt(self, instance: Instance) -> None:
        if instance.expiry is not None:
            instance.expiry.cancel()
        for connection in list(instance.connections):
            connection.abort()
        if instance.vm is not None:
            await instance.vm.stop()
            instance.vm = None

    async def _pause(self, instance: Instance) -> None:
        instance.paused = True
        await self._halt(instance)

    async def pause(self, _: Json, __: Json, identity: str) -> Json:
        await self._pause(self._instance(identity))
        return {}

    async def resume(self, _: Json, __: Json, identity: str) -> Json:
        instance = self._instance(identity)
        if instance.paused:
            instance.vm = await Vm.start(instance.root, self.shares)
            instance.paused = False
            instance.ready_at = time.monotonic() + self.boot_seconds
        return {}

    async def exec(self, _: Json, body: Json, identity: str) -> Json:
        vm = self._instance(identity).vm
        if vm is None:
            raise Refused(409, "Instance is not running")
        code, stdout, stderr = await vm.run(" ".join(body["command"]))
        return {"exit_code": code, "stdout": stdout.decode(errors="replace"), "stderr": stderr.decode(errors="replace")}

    async def save(self, query: Json, body: Json, identity: str) -> Json:
        instance = self._instance(identity)
        root = await asyncio.to_thread(copy_root, instance.root)
        digest = query.get("digest")
        return self._new_snapshot(root, instance.snapshot.image, instance.spec, body, digest=digest).json()

    async def branch(self, query: Json, _: Json, identity: str) -> Json:
        instance = self._instance(identity)
        saved = self._new_snapshot(await asyncio.to_thread(copy_root, instance.root), BASE_IMAGE, instance.spec)
        copies = [await self._start(saved, {}, saved.spec) for _ in range(int(query["count"]))]
        return {"snapshot": saved.json(), "instances": [copy.json() for copy in copies]}

    async def expose(self, _: Json, body: Json, identity: str) -> Json:
        instance = self._instance(identity)
        if body["name"] in instance.services:
            raise Refused(409, f"HTTP service {body['name']} already exists")
        instance.services[body["name"]] = body["port"]
        return {}

    async def hide(self, _: Json, __: Json, identity: str, name: str) -> Json:
        if self._instance(identity).services.pop(name, None) is None:
            raise Refused(404, f"HTTP service {name} not found")
        return {}

    async def ttl(self, _: Json, body: Json, identity: str) -> Json:
        self._set_ttl(self._instance(identity), body)
        return {}

    async def metadata(self, _: Json, body: Json, identity: str) -> Json:
        self._instance(identity).metadata = body
        return {}

    async def ssh_key(self, _: Json, __: Json, identity: str) -> Json:
        key = self._instance(identity).key
        return {
            "object": "instance_ssh_key", "private_key": key.export_private_key().decode(),
            "public_key": key.export_public_key().decode(), "password": "unused",
        }  # fmt: skip


class Gateway(asyncssh.SSHServer):
    """Who may log in: ``<instance>:<api key>`` with any key, ``<instance>`` with its own."""

    def __init__(self, fake: MorphFake) -> None:
        self.fake = fake
        self.instance: Instance | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self.fake.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fake.connections.discard(self.connection)
        if self.instance is not None:
            self.instance.connections.discard(self.connection)

    def begin_auth(self, username: str) -> bool:
        self.fake.logins.append(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        identity, _, password = username.partition(":")
        instance = self.fake.instances.get(identity)
        if instance is None or instance.status != "ready":
            return False
        if password != KEY and (password or key.public_data != instance.key.public_data):
            return False
        self.instance = instance
        instance.connections.add(self.connection)
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return self.fake.tunnels


def _spec(body: Json, otherwise: Json | None = None) -> Json:
    otherwise = otherwise or {"vcpus": 1, "memory": 512, "disk_size": 1024}
    return {name: body.get(name) or otherwise[name] for name in ("vcpus", "memory", "disk_size")}


def _has(metadata: Json, query: Json) -> bool:
    wanted = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}
    return wanted.items() <= metadata.items()


Handler = Callable[..., Coroutine[Any, Any, Json]]
ROUTES: list[tuple[str, Handler]] = [
    (r"POST /snapshot", MorphFake.create_snapshot),
    (r"GET /snapshot", MorphFake.list_snapshots),
    (r"GET /snapshot/(\w+)", MorphFake.get_snapshot),
    (r"DELETE /snapshot/(\w+)", MorphFake.delete_snapshot),
    (r"POST /snapshot/(\w+)/boot", MorphFake.boot),
    (r"POST /instance", MorphFake.start),
    (r"GET /instance", MorphFake.list_instances),
    (r"GET /instance/(\w+)", MorphFake.get_instance),
    (r"DELETE /instance/(\w+)", MorphFake.delete_instance),
    (r"POST /instance/(\w+)/exec", MorphFake.exec),
    (r"POST /instance/(\w+)/snapshot", MorphFake.save),
    (r"POST /instance/(\w+)/branch", MorphFake.branch),
    (r"POST /instance/(\w+)/http", MorphFake.expose),
    (r"DELETE /instance/(\w+)/http/([\w-]+)", MorphFake.hide),
    (r"POST /instance/(\w+)/pause", MorphFake.pause),
    (r"POST /instance/(\w+)/resume", MorphFake.resume),
    (r"POST /instance/(\w+)/ttl", MorphFake.ttl),
    (r"POST /instance/(\w+)/metadata", MorphFake.metadata),
    (r"GET /instance/(\w+)/ssh/key", MorphFake.ssh_key),
]
