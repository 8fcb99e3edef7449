"""``ramure`` as a user runs it, on a live run: as a process, in a pipe or in a terminal; and the schemas of its JSON."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).parent / "program.py"
SCHEMAS = json.loads((ROOT / "docs" / "cli-json.json").read_text(encoding="utf-8"))
LIMIT = 60.0


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code. In a terminal, both outputs are ``out``."""

    code: int
    out: str
    err: str = ""

    @property
    def json(self) -> Any:
        """The document, checked against the schema that it names."""
        return checked(self.out)


def checked(text: str) -> Any:
    """A document of a command, checked against its schema."""
    document = json.loads(text)
    prefix, name, version = document["schema"].split(".")
    assert prefix == "ramure"
    schema = {"$schema": SCHEMAS["$schema"], "$ref": f"{SCHEMAS['$id']}#/$defs/{name}.{version}"}
    registry: Any = Registry().with_resource(SCHEMAS["$id"], Resource.from_contents(SCHEMAS))
    jsonschema.Draft202012Validator(schema, registry=registry).validate(document)
    return document


@dataclass
class Shell:
    """Where commands are run: a home of ramure's, and what else is in the environment."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAMURE_")}
        return {**kept, "RAMURE_HOME": str(self.home), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **self.env}

    def __call__(self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Said:
        """In a pipe."""
        done = subprocess.run(
            [sys.executable, "-m", "ramure.cli", *arguments],
            env={**self.environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def at_terminal(self, *arguments: str, keys: bytes = b"") -> Said:
        """In a pseudo-terminal of 160 columns."""
        pid, master = pty.fork()
        if pid == 0:
            os.execve(
                sys.executable, [sys.executable, "-m", "ramure.cli", *arguments], {**self.environ, "COLUMNS": "160"}
            )
        if keys:
            os.write(master, keys)
        said = b""
        signal.alarm(0)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(master, 65536):
                said += data
        os.close(master)
        _, status = os.waitpid(pid, 0)
        return Said(os.waitstatus_to_exitcode(status), said.decode().replace("\r\n", "\n"))


@contextlib.contextmanager
def live_run(shell: Shell, *agents: str, id: str | None = None, program: Path = PROGRAM) -> Iterator[str]:
    """A run of ``program.py`` with these agents; gives its id. It is stopped at the end if it still runs."""
    running = subprocess.Popen(
        [sys.executable, str(program), *([",".join(agents)] if agents else []), *([id] if id else [])],
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # what a shell starts in the background ignores it
    )
    try:
        assert running.stdout is not None
        yield running.stdout.readline().split()[1]
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
        running.wait(LIMIT)
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()
