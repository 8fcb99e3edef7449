"""The ``ramure`` command. A command's module is imported only when that command runs, so each starts quickly.

To add one: write ``ramure/cli/<name>.py`` with a click command called ``command``, and add its name and line here.
"""

from __future__ import annotations

import importlib
import os
import sys
from io import TextIOWrapper
from typing import Any, Final

import click

from ramure.cli.common import EXIT_USAGE, Failed, exit_code, in_one_line, said
from ramure.errors import RamureError, refuse_windows

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "run": "Run a program, and show what its agents do; --script: on a scripted model.",
    "ls": "The live runs, and what their agents do; --all: also those that have ended.",
    "status": "One run: its agents, machines, connections, endpoints and last events.",
    "logs": "What the logs of a run or an agent say, also of one that has ended.",
    "send": "Send an agent a message.",
    "call": "Call an endpoint of a run.",
    "connect": "Show an agent's terminal in this one.",
    "ssh": "A shell on an agent's machine.",
    "exec": "Run a command on an agent's machine.",
    "pause": "Stop agents from working, and from spending.",
    "resume": "Let what was paused go on.",
    "stop": "End a run.",
    "tree": "The processes, agents and machines of a run, each below the one that started it; --all: every actor.",
    "inspect": "All that is known about one actor.",
    "trace": "What happens to actors, as it happens.",
    "top": "The busiest actors, the longest mailboxes, the agents that use most tokens.",
    "why": "Why an agent or actor died, and what was done about it; also of a run that has ended.",
    "kill": "End an actor.",
    "suspend": "Have an actor handle no messages.",
    "restart": "Have an actor's supervisor start it anew.",
    "gc": "Remove what killed runs have left.",
    "demo": "Have a real pi write ten haikus, and watch it.",
    "setup": "Find or install a Node and a pi that fit together.",
    "doctor": "Say what is there, what is missing, and the command that mends it.",
}
"""The commands and their lines in the help, in its order: the help imports none of them."""


class _Commands(click.Group):
    """Finds commands by name, and turns every error into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ramure.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=3)
            meant = f"did you mean {' or '.join(near)}?" if near else "`ramure --help` lists them"
            raise Failed(f"there is no command {args[0]!r}; {meant}", EXIT_USAGE)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise in_one_line(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        for stream in (
            sys.stdout,
            sys.stderr,
        ):  # a terminal that has no │, a text that is no Unicode: still no traceback
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            refuse_windows()
            return super().invoke(ctx)
        except click.UsageError as error:
            raise in_one_line(error) from error
        except RamureError as error:
            raise Failed(said(error), exit_code(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version  # which takes as long as the rest of the start

    try:
        number = version("ramure")
    except PackageNotFoundError:
        number = "of a checkout that is not installed"
    click.echo(f"ramure {number}")
    ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog='Example: ramure ls, then ramure status. Completion: eval "$(_RAMURE_COMPLETE=bash_source ramure)"',
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say it.")
def main() -> None:
    """Coding agents in tmux, supervised as actors.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such run, 4 no such agent or actor.
    """
