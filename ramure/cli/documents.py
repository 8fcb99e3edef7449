"""What the commands print with ``--json``, as types. ``docs/cli-json.json`` is made of them.

Commands import this for type checkers alone, so that they start quickly. Versions only add fields.
"""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from ramure.cli.commands.doctor import Check
from ramure.runtime.control.answers import ByHand, Killed, Restarted, TopView, TreeView
from ramure.runtime.run.gc import Leftover
from ramure.runtime.views.actor_data import ActorDetails, TraceRecord
from ramure.runtime.views.status_data import EndedRun, EndedStatus, RunStatus, RunSummary
from ramure.runtime.views.story import Story
from ramure.types import ExecResult

__all__ = ["DOCUMENTS", "schemas"]

URL: Final = "https://ramure.dev/cli-json.json"


class Silent(TypedDict):
    """A live run that does not answer."""

    execution_id: str
    error: str


class Ls(TypedDict):
    """The runs of this home."""

    runs: list[RunSummary]
    silent: list[Silent]
    """Live runs that do not answer."""
    ended: NotRequired[list[EndedRun]]
    """With ``--all``."""


class OfRun(TypedDict):
    """Which run it is about."""

    execution_id: str


class LogEntry(TypedDict):
    """One a line: an entry of a log, as it stands there."""

    ts: float
    """Seconds since 1970."""
    type: str
    log: str
    """``_runtime``, or an agent's address (with ``@2`` … for a later agent of that address)."""
    seq: NotRequired[int]
    data: NotRequired[Any]
    origin: NotRequired[str]


class Send(OfRun):
    """A message was sent."""

    agent: str
    seq: int
    """The number of the message in the agent's log."""


class Call(OfRun):
    """An endpoint was called."""

    endpoint: str
    value: Any
    """What it returned: a dataclass is its fields and ``"type"``, times and bytes are texts."""


class TerminalOf(OfRun):
    """What a terminal would run."""

    agent: str
    argv: list[str]
    env: list[str]
    """The names of the variables it gets beside yours."""
    cwd: str | None


class Exec(OfRun):
    """A command that has ended; the exit code of ramure itself is 0 then."""

    agent: str
    command: str


class Pause(OfRun):
    """What was paused."""

    paused: list[str]


class Resume(OfRun):
    """What goes on."""

    resumed: list[str]


class Stop(OfRun):
    """A run that was ended."""

    killed: bool


class Doctor(TypedDict):
    """What is there, and what is missing."""

    ok: bool
    checks: list[Check]


class Missing(TypedDict):
    """A program that agents need."""

    tool: str
    remedy: str


class Setup(TypedDict):
    """What agents run."""

    pi: str
    pi_version: str
    node: str | None
    node_version: str | None
    source: str
    missing: list[Missing]


class SetupPlan(TypedDict):
    """With ``--dry-run``."""

    plan: list[str]
    installs: bool


class Demo(TypedDict):
    """What the demo's agents wrote."""

    haikus: list[str]


class Run(TypedDict):
    """A program that has ended."""

    argv: list[str]
    exit_code: int
    """The program's; 128 and the signal's number, where one has ended it."""
    seconds: float
    runs: list[EndedRun]
    """The runs that it has had."""


class Gc(TypedDict):
    """What killed runs have left."""

    dry_run: bool
    found: list[Leftover]


class Dropped(TypedDict):
    """So many events are missing here."""

    dropped: int


DOCUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "run": (Run,),
    "ls": (Ls,),
    "status": (RunStatus | EndedStatus,),
    "log": (LogEntry,),
    "send": (Send,),
    "call": (Call,),
    "connect": (TerminalOf,),
    "ssh": (TerminalOf,),
    "exec": (Exec, ExecResult),
    "pause": (Pause,),
    "resume": (Resume,),
    "stop": (Stop,),
    "doctor": (Doctor,),
    "setup": (Setup,),
    "setup_plan": (SetupPlan,),
    "demo": (Demo,),
    "tree": (TreeView,),
    "inspect": (OfRun, ActorDetails),
    "suspend": (OfRun, ByHand),
    "restart": (OfRun, Restarted),
    "kill": (OfRun, Killed),
    "why": (OfRun, Story),
    "top": (TopView,),
    "gc": (Gc,),
    "trace": (TraceRecord | Dropped,),
}
"""What is in each document beside ``"schema"``: the fields of all these types."""


def schemas() -> dict[str, Any]:
    """All documents as JSON Schema. Imports pydantic."""
    from ramure.agents.tools.json_schema import definitions_of

    kinds = {f"{name}.v1.{number}": kind for name, parts in DOCUMENTS.items() for number, kind in enumerate(parts)}
    of_parts, definitions = definitions_of(kinds)
    documents = {
        f"{name}.v1": {
            "type": "object",
            "required": ["schema"],
            "properties": {"schema": {"const": f"ramure.{name}.v1"}},
            "allOf": [of_parts[f"{name}.v1.{number}"] for number in range(len(parts))],
        }
        for name, parts in DOCUMENTS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": URL,
        "title": "What ramure's commands print with --json",
        "description": 'Each document names its schema in "schema": ramure.NAME.vN is $defs/NAME.vN here. Fields may be '
        "added to a version; none is taken away or changes its meaning.",
        "$defs": {**documents, **definitions},
    }
