"""What the commands share: options, output, exit codes. Imports no more than it needs, so that each starts quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from ramure.cli.text import one_line
from ramure.errors import RamureError
from ramure.runtime.control.errors import AmbiguousRun, NoSuchRun, RequestFailed

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = [
    "EXIT_NO_ACTOR",
    "EXIT_NO_RUN",
    "EXIT_USAGE",
    "SECONDS",
    "Failed",
    "age",
    "agent_argument",
    "as_json",
    "clock",
    "cost",
    "exit_code",
    "find",
    "in_one_line",
    "json_option",
    "logged_run_option",
    "note",
    "number",
    "optional_agent",
    "run_argument",
    "run_option",
    "said",
    "seconds_of",
    "tokens",
    "usage_error",
]

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_ERROR: Final = 1000
"""Characters; an error may have the screen of a pi in it."""

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_RUN: Final = 3
EXIT_NO_ACTOR: Final = 4


# -- errors -------------------------------------------------------------------------------------------------------


class Failed(click.ClickException):
    """One line on standard error, and the exit code."""

    def __init__(self, text: str, code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.exit_code = code  # type: ignore[misc] # click reads it of the instance

    def show(self, file: Any = None) -> None:
        """As ``ramure: what is wrong; what mends it``."""
        click.echo(f"{click.style('ramure:', fg='red')} {self.format_message()}", err=True, file=file)

    def format_message(self) -> str:
        """One line."""
        return one_line(self.message, LONGEST_ERROR) or "failed"


def exit_code(error: RamureError) -> int:
    """The exit code for one of ramure's exceptions: 2 wrong usage, 3 no such run, 4 no such agent or actor, else 1."""
    kind = error.kind if isinstance(error, RequestFailed) else type(error).__name__
    if isinstance(error, NoSuchRun) or kind == "RunEnded":
        return EXIT_NO_RUN
    if kind in ("NoSuchAgent", "NoSuchActor", "AmbiguousActor", "NoSuchProcess"):
        return EXIT_NO_ACTOR
    if isinstance(error, AmbiguousRun) or kind in ("BadRequest", "WrongArguments"):
        return EXIT_USAGE
    return EXIT_FAILED


def in_one_line(error: click.UsageError) -> Failed:
    """What click has to say of a command that was typed wrong, with the remedy."""
    said = error.format_message().rstrip(".")
    where = error.ctx.command_path if error.ctx is not None else "ramure"
    return Failed(f"{said[:1].lower()}{said[1:]}; see `{where} --help`", EXIT_USAGE)


def said(error: RamureError) -> str:
    """What an error says to whoever typed a command: not which argument of the control socket was wrong."""
    text = str(error)
    if isinstance(error, RequestFailed) and error.kind == "BadRequest" and error.field:
        reason = text.removeprefix(f"{error.field}: ")
        return text if reason.startswith("must") else reason
    return text


def usage_error(text: str) -> NoReturn:
    """What was typed cannot be meant."""
    raise Failed(text, EXIT_USAGE)


class _Seconds(click.FloatRange):
    """A time to wait. Not a number that no wait can be made of."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, max=1e8)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if seconds != seconds:  # as NaN alone
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


SECONDS: Final = _Seconds()

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float | None:
    """Of ``30s``, ``10m``, ``2h``, ``1d``; None for anything else."""
    number, unit = text.strip()[:-1].strip(), text.strip()[-1:]
    if unit not in UNITS or not number.replace(".", "", 1).isdecimal() or not number.isascii():
        return None
    return float(number) * UNITS[unit]


# -- options ------------------------------------------------------------------------------------------------------


def _runs(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from ramure.runtime.control.find import sockets

    return [path.stem for path in sockets() if path.stem.startswith(incomplete)]


def _agents(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The addresses of the live agents: of the run that was said, else of all."""
    from ramure.runtime.control.blocking import ask_each

    answers, _ = ask_each("summary", timeout=1.0)
    wanted = ctx.params.get("run") or ""
    addresses = {a["address"] for run, answer in answers.items() if run.startswith(wanted) for a in answer["agents"]}
    return sorted(address for address in addresses if address.startswith(incomplete))


def run_option(function: F) -> F:
    """``--id``: the run, where several are live. The parameter is called ``run``."""
    return click.option(
        "--id", "run", metavar="RUN", shell_complete=_runs, help="The run: its id, or a beginning of it."
    )(function)


def _logged_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The live ones, then those that have ended, the last first."""
    from ramure.runtime.log.reader import run_directories

    live = _runs(ctx, parameter, incomplete)
    ended = [path.name for path in run_directories() if path.name.startswith(incomplete)]
    return [*live, *(run for run in ended if run not in live)]


def logged_run_option(function: F) -> F:
    """``--id`` for what is read from logs: the run may have ended. The parameter is called ``run``."""
    return click.option(
        "--id",
        "run",
        metavar="RUN",
        shell_complete=_logged_runs,
        help="The run, live or ended: its id, or a beginning of it.",
    )(function)


def run_argument(function: F) -> F:
    """``[RUN]``, the same as ``--id`` for the commands that are about a run. The parameter is called ``wanted``."""
    return click.argument("wanted", required=False, metavar="[RUN]", shell_complete=_runs)(function)


def agent_argument(function: F) -> F:
    """``AGENT``, with completion."""
    return click.argument("agent", shell_complete=_agents)(function)


def optional_agent(function: F) -> F:
    """``[AGENT]``, with completion."""
    return click.argument("agent", required=False, shell_complete=_agents)(function)


def json_option(function: F) -> F:
    """``--json``. The parameter is called ``json_wanted``."""
    return click.option("--json", "json_wanted", is_flag=True, help="The same as JSON (docs/cli-json.md).")(function)


def find(run: str | None, timeout: float | None = 5.0) -> RunClient:
    """A client of the run that is meant."""
    from ramure.runtime.control.blocking import find_run

    return find_run(run, timeout)


# -- output -------------------------------------------------------------------------------------------------------


def as_json(name: str, data: Mapping[str, Any]) -> None:
    """Print a document. What is in the one of this name is in :mod:`ramure.cli.documents`; versions only grow."""
    document = {"schema": f"ramure.{name}.v1", **data}
    text = json.dumps(document, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(document)  # half characters are in no encoding, but as escapes
    click.echo(text)


def note(text: str) -> None:
    """A remark on standard error, in one line."""
    click.echo(f"{click.style('ramure:', fg='yellow')} {one_line(text, LONGEST_ERROR)}", err=True)


def age(seconds: float | None) -> str:
    """``12s``, ``3m05s``, ``2h10m``, ``5d03h``."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def number(value: float) -> str:
    """``950``, ``12.3k``, ``4.56M``."""
    if value < 1000:
        return str(int(value))
    if value < 1_000_000:
        return f"{value / 1000:.1f}k"
    return f"{value / 1_000_000:.2f}M"


def tokens(usage: Mapping[str, Any] | None) -> str:
    """All tokens together."""
    if not usage:
        return "-"
    return number(sum(usage.get(kind) or 0 for kind in ("input", "output", "cache_read", "cache_write")))


def cost(usage: Mapping[str, Any] | None) -> str:
    """In the currency of the model's price list."""
    spent = (usage or {}).get("cost") or 0.0
    return f"{spent:.4f}" if 0 < spent < 0.1 else f"{spent:.2f}"


def clock(at: float) -> str:
    """The time of day, here; with the date if it was not today."""
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", then)
