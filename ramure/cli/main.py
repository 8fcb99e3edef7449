"""The ``ramure`` command. A command's module is imported only when that command runs, so each starts quickly.

To add one: write ``ramure/cli/<name>.py`` with a click command called ``command``, and add its name here.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from ramure.errors import RamureError

__all__ = ["COMMANDS", "main"]

COMMANDS = ("demo", "setup", "doctor", "ls", "connect")
"""The commands, in the order of the help."""


class _Commands(click.Group):
    """Finds commands by name, and turns ramure's own errors into a line and status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"ramure.cli.{name}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"ramure.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RamureError as error:
            raise click.ClickException(str(error)) from error


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    try:
        number = version("ramure")
    except PackageNotFoundError:
        number = "of a checkout that is not installed"
    click.echo(f"ramure {number}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say it.")
def main() -> None:
    """Coding agents in tmux, supervised as actors."""
