"""How pi is started on a machine: the files it needs, and its command.

Nothing secret is in the command: the token stands in a configuration file, provider keys in an environment
file, both of mode 0600 in a directory of mode 0700.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import uuid
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.pi.session_file import mend
from ramure.executor import in_thread
from ramure.machines.asking import ask
from ramure.machines.git.command import without_repository
from ramure.machines.local import LocalMachine
from ramure.machines.reaper.process_tree import TREE, Daemons, environment_file, held
from ramure.machines.tmux.driver import env_file, wrapped
from ramure.marks import RUN_ID

if TYPE_CHECKING:
    from ramure.agents.message_marks import MessageMarks
    from ramure.agents.pi.launch_target import LaunchTarget
    from ramure.machines.base import Machine

__all__ = ["Launch", "Timings", "extension_path", "own_environment", "without_inspector"]

CONFIG_VARIABLE: Final = "RAMURE_AGENT_CONFIG"

_NOT_PASSED_ON: Final = re.compile(
    rf"TMUX.*|RAMURE_AGENT_.*|RAMURE_LAUNCH|{TREE}|PWD|OLDPWD|SHLVL|_|LINES|COLUMNS|TERM|PYTEST_CURRENT_TEST"
)

NODE_OPTIONS: Final = "NODE_OPTIONS"
_NODE_OPTION: Final = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s"])+')

RESERVES: Final = ("0", "1", "probe")
"""Files beside the session file that hold room for it (``extension/reserve.ts``)."""

LAUNCH: Final = "RAMURE_LAUNCH"
"""The variable by which what pi has started is found where it has no parent that holds it."""

_QUIET: Final = {"PI_TELEMETRY": "0", "PI_SKIP_VERSION_CHECK": "1"}
"""pi asks nobody for updates and tells nobody anything while it works for a program."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: how long pi lives without its run, how often it gives a sign of life, and after how long a
    silence the other side counts as gone."""

    grace: float = 10.0
    heartbeat: float = 2.0
    silence: float = 8.0

    def within(self, stale_after: float) -> Timings:
        """The same, with signs of life often enough for one that counts as hung after ``stale_after`` seconds."""
        return replace(self, heartbeat=min(self.heartbeat, stale_after / 4), silence=min(self.silence, stale_after / 2))


@dataclass(frozen=True)
class Launch:
    """One start of pi for one agent. A restart is another launch, with another token."""

    run_id: str
    address: str
    token: str = field(repr=False)
    place: LaunchTarget
    model: str | None = None
    timings: Timings = Timings()
    daemons: Daemons = "end"
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def config_path(self) -> str:
        return f"{self.place.directory}/{self.id}.json"

    @property
    def env_path(self) -> str:
        return f"{self.place.directory}/{self.id}.env"

    @property
    def report_path(self) -> str:
        """What was ended with this pi."""
        return f"{self.place.directory}/{self.id}.ended"

    def config(self) -> bytes:
        """The file that the extension reads."""
        values: dict[str, Any] = {
            "url": self.place.url,
            "token": self.token,
            "agent": self.address,
            "launch": self.id,
            "grace": self.timings.grace + self.place.machine.link_patience,
            "heartbeat": self.timings.heartbeat,
            "silence": self.timings.silence,
        }
        return json.dumps(values).encode()

    def command(self) -> list[str]:
        """What the tmux session runs."""
        place = self.place
        pi = [*place.pi_argv, "-e", place.extension, "--session", place.session_file]
        if self.model is not None:
            pi += ["--model", self.model]
        if not place.parent:
            return wrapped(pi, self.env_path)
        _, first = place.environment({})
        return held(
            pi,
            place.parent,
            mark=self.id,
            environment=self.env_path,
            first=first or "",
            report=self.report_path,
            daemons=self.daemons,
        )

    async def write(self, marks: MessageMarks) -> tuple[int, ...]:
        """Put the files on the machine. A session file that exists is the agent's memory: it is kept, and mended.

        Returns the seqs of messages in it that the run did not send (``marks``); they are left out.
        """
        place, machine = self.place, self.place.machine
        more = {**_QUIET, CONFIG_VARIABLE: self.config_path, LAUNCH: self.id, RUN_ID: self.run_id}
        environment, first = place.environment(more)
        await machine.write_private(self.config_path, self.config())
        content = environment_file(environment) if place.parent else env_file(environment, first)
        await machine.write_private(self.env_path, content)
        kept, here = await self._memory()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        mended = await in_thread(mend, kept, str(uuid.uuid4()), place.cwd, now, marks)  # it may be large
        if mended.text is not None or not here:
            await place.write_session((kept if mended.text is None else mended.text).encode())
        return mended.forged

    async def _memory(self) -> tuple[str, bool]:
        """What the agent knows, and whether that is on the machine."""
        try:
            kept, here = await self.place.machine.read_file(self.place.session_file), True
        except FileNotFoundError:
            kept, here = await self.place.memory() or b"", False
        return kept.decode("utf-8", "replace"), here

    async def remove(self) -> None:
        """Remove what :meth:`write` made for this launch; the session file stays."""
        reserves = [f"{self.place.session_file}.{each}.reserve" for each in RESERVES]
        files = [self.config_path, self.env_path, self.report_path, f"{self.place.session_file}.new", *reserves]
        await ask(self.place.machine, ["rm", "-f", "--", *files])


def extension_path() -> Path:
    """The extension that pi loads, on this host."""
    return Path(str(resources.files("ramure.agents.pi") / "extension" / "index.ts"))


def own_environment(machine: Machine) -> dict[str, str]:
    """What pi on this host finds in its environment: the user's own, with the image's additions."""
    own = without_repository(os.environ)
    own = {name: value for name, value in own.items() if not _NOT_PASSED_ON.fullmatch(name)}
    if not isinstance(machine, LocalMachine):
        return {}
    own |= machine.env
    if (options := own.get(NODE_OPTIONS)) is not None:
        own[NODE_OPTIONS] = without_inspector(options)
    return own


def without_inspector(options: str) -> str:
    """``NODE_OPTIONS`` without those that open Node's inspector, by which anyone on the host could steer pi."""
    kept: list[str] = []
    value_follows = False
    for word in _NODE_OPTION.findall(options):
        bare = word.strip('"').replace("_", "-")
        if value_follows and not bare.startswith("-"):
            value_follows = False
        elif bare.startswith("--inspect"):
            value_follows = bare in ("--inspect-port", "--inspect-publish-uid")
        else:
            kept.append(word)
            value_follows = False
    return " ".join(kept)
