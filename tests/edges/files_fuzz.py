"""Mutated leases and logs, made of right ones: what a disk, another program or another user may have left there."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ramure.machines.reaper.removal import boot, identify

ODD: list[Any] = [
    None, True, 0, -1, 1e308, -1e308, 10**30, 10**400, float("nan"), float("inf"), "", "x", "many", "1e999", "-rf", "\0", "\ud800",
    "../../etc", "/", "/dev/zero", "/dev/full", "x" * 5000, [], {}, [[]], {"x": {}}, "ü\n\x1b[31m",
]  # fmt: skip


def program(**change: Any) -> dict[str, Any]:
    """Of a program that is dead: it was before the last boot."""
    dead = {"lock": "", "pid": 4194303, "started": "1", "boot": "before", "namespace": "pid:[1]"}
    return {**dead, "host": socket.gethostname(), **change}


class Home:
    """A home with the leases and logs of one dead run; ``files`` are those that can be mutated."""

    def __init__(self, home: Path, temporary: Path, random: random.Random) -> None:
        self.home = home
        self.random = random
        self.run = f"fuzzed-run-{secrets.token_hex(6)}"
        self.logs = home / "logs" / self.run
        self.content: dict[Path, list[Any]] = {}
        for directory in (home / "runtimes", home / "machines", self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        made = temporary / f"ramure-{self.run}-0123abcd-x"
        made.mkdir()
        known = {"path": str(made), "identity": identify(str(made)), "machine": secrets.token_hex(4)}
        gone = {"path": str(temporary / "gone"), "identity": {**known["identity"]}, "machine": secrets.token_hex(4)}  # type: ignore[dict-item]
        worktree = {"identity": "0123abcd", "path": f"{gone['path']}/ramure-0123abcd", "inode": 7, "common": str(temporary / "no"),
                    "admin": f"{temporary}/no/worktrees/ramure-0123abcd", "base": "0" * 40}  # fmt: skip
        container = {
            "engine": "docker",
            "options": ["--host", "unix:///nowhere"],
            "name": "0123456789ab",
            "machine": "",
        }
        lease = {"execution_id": self.run, "program": program(), "logs": str(self.logs), "scratch": str(temporary / self.run),
                 "socket": str(home / "runtimes" / f"{self.run}.sock"), "temporary": str(temporary), "scratch_identity": None}  # fmt: skip
        self.content[home / "runtimes" / f"{self.run}.json"] = [lease]
        kinds = {"directory": known, "overlay": gone, "worktree": {**gone, "worktree": worktree}, "container": container,
                 "container image": {**container, "name": "ramure-commit:0123456789ab"}}  # fmt: skip
        for kind, fields in kinds.items():
            made_by = {"what": f"a {kind}", "run": self.run, "kind": kind, "fields": fields, "program": program()}
            self.content[home / "machines" / f"{kind}.json"] = [made_by]
        usage = {"input": 10, "output": 5, "cacheRead": 1, "cacheWrite": 0, "cost": {"total": 0.5}}
        self.content[self.logs / "worker.jsonl"] = [
            {"seq": 1, "ts": 1.7e9, "type": "message", "data": {"text": "Go."}},
            {"seq": 2, "ts": 1.7e9, "type": "assistant", "data": {"text": "Yes.", "usage": usage}},
            {"seq": 3, "ts": 1.7e9, "type": "tool_call", "data": {"call_id": "c", "name": "f", "arguments": {"n": 1}}},
            {"seq": 4, "ts": 1.7e9, "type": "problem", "data": {"code": "x", "message": "y"}},
            {"seq": 5, "ts": 1.7e9, "type": "connection", "data": {"state": "lost", "reason": "y"}},
        ]
        ending = {"outcome": "failed", "reason": "why", "program": "main", "agents": 1, "seconds": 1.0}
        ours = {"input": 10, "output": 5, "cache_read": 1, "cache_write": 0, "cost": 0.5}
        self.content[self.logs / "_runtime.jsonl"] = [
            {"ts": 1.7e9, "type": "run_started", "execution_id": self.run, "pid": 7},
            {
                "ts": 1.7e9,
                "type": "crash_report",
                "address": "worker",
                "path": "run / worker",
                "reason": "y",
                "doing": "z",
            },
            {"ts": 1.7e9, "type": "agent_restarted", "agent": "worker", "seconds": 1.5, "restarts": 1},
            {"ts": 1.7e9, "type": "event", "event": "failed", "process": "main", "source": None, "data": "x"},
            {
                "ts": 1.7e9,
                "type": "operator",
                "command": "stop",
                "actor": "worker",
                "path": "run / worker",
                "reason": "x",
            },
            {"ts": 1.7e9, "type": "alarm", "alarm": "disk_full", "reason": "x"},
            {"ts": 1.7e9, "type": "run_ended", "usage": ours, **ending},
        ]

    def write(self) -> int:
        """Write all of it, most of it mutated; how many files are."""
        mutated = 0
        for path, entries in self.content.items():
            how = self.random.random()
            if how < 0.1:
                self.put(path, entries)
            elif how < 0.75:
                self.put(path, [self.changed(entry) for entry in entries])
                mutated += 1
            elif how < 0.9:
                path.write_bytes(self.torn(encoded(entries)))
                mutated += 1
            else:
                self.other(path)
                mutated += 1
            if self.random.random() < 0.1:
                (path.parent / f"{path.name}.1").write_bytes(self.torn(encoded(entries)))
        return mutated

    def put(self, path: Path, entries: list[Any]) -> None:
        path.write_bytes(encoded(entries))

    def changed(self, entry: Any) -> Any:
        """An entry with one or two odd values in it, or without some."""
        entry = copy.deepcopy(entry)
        for _ in range(self.random.randrange(3)):
            places = list(leaves(entry))
            if not places:
                break
            within, key = self.random.choice(places)
            if self.random.random() < 0.15 and isinstance(within, dict):
                del within[key]
            else:
                within[key] = copy.deepcopy(self.random.choice(ODD))
        return self.random.choice(ODD) if self.random.random() < 0.03 else entry

    def torn(self, data: bytes) -> bytes:
        at, end = sorted(self.random.randrange(len(data) + 1) for _ in range(2))
        choices: list[Callable[[], bytes]] = [
            lambda: data[:at],
            lambda: data[:at] + b"\0" * (end - at) + data[end:],
            lambda: data[:at] + self.random.randbytes(end - at) + data[end:],
            lambda: data[:at] + data[end:],
            lambda: data[:at] + b"\n" + data[at:],
            lambda: data.replace(b"\n", b""),
            lambda: data.replace(b"\n", b"\r\n"),
            lambda: b"[" * 100_000 + b"\n" + data,
            lambda: b'{"seq":"x"}\n{"ts":"y"}\n{"type":7}\n[]\n7\n\n' + data,
            lambda: b'{"a":' + b"9" * 10_000 + b"}\n" + data,
            lambda: b"",
        ]
        return self.random.choice(choices)()

    def other(self, path: Path) -> None:
        """Something that is no file of ours."""
        match self.random.randrange(8):
            case 0:
                os.mkfifo(path)
            case 1:
                path.mkdir()
            case 2:
                path.symlink_to(self.random.choice(["/dev/zero", "/nowhere", path.name, "/etc/passwd", "/proc/kmsg"]))
            case 3:
                fifo = path.with_name("fifo")
                if not fifo.exists():
                    os.mkfifo(fifo)
                path.symlink_to(fifo)
            case 4:
                with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
                    sock.bind(str(path))
            case 5 if os.geteuid() == 0:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as /dev/zero
            case 6 if os.geteuid() == 0:
                self.put(path, self.content[path])
                os.chown(path, 1234, 1234)
            case _:
                self.put(path, self.content[path])
                path.chmod(0)

    def clean(self) -> None:
        shutil.rmtree(self.home)


def encoded(entries: list[Any]) -> bytes:
    return b"".join(json.dumps(entry).encode("utf-8", "surrogatepass") + b"\n" for entry in entries)


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in a value of JSON, as what it is in and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from leaves(inner)


assert boot() != "before"
