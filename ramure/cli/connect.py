"""``ramure connect``: show an agent's terminal in this one."""

from __future__ import annotations

import os
import sys

import click

from ramure.runtime.control.blocking import find_run

__all__ = ["command"]


@click.command("connect", epilog="Example: ramure connect worker --read-only")
@click.argument("agent")
@click.option("--id", "run", metavar="PREFIX", help="The run, where several are live.")
@click.option("--read-only", is_flag=True, help="Only look: what you type does not reach the agent.")
def command(agent: str, run: str | None, read_only: bool) -> None:
    """Show AGENT's terminal in this one. Leave it with Ctrl-b d; the agent goes on."""
    with find_run(run) as client:
        argv: list[str] = client.request("attach", agent=agent)["command"]
    if read_only:
        argv.append("-r")
    if not sys.stdin.isatty():
        raise click.UsageError("connect needs a terminal; `ramure ls` works anywhere")
    environment = {name: value for name, value in os.environ.items() if name != "TMUX"}  # also from within a tmux
    os.execvpe(argv[0], argv, environment)
