"""``ramure connect``: show an agent's terminal in this one."""

from __future__ import annotations

import click

from ramure.cli.common import agent_argument, as_json, find, json_option, run_option
from ramure.cli.terminals import become, need_terminal

__all__ = ["command"]


@click.command("connect", epilog="Example: ramure connect worker --read-only")
@agent_argument
@run_option
@click.option("--read-only", is_flag=True, help="Only look: what you type does not reach the agent.")
@json_option
def command(agent: str, run: str | None, read_only: bool, json_wanted: bool) -> None:
    """Show AGENT's terminal in this one. Leave it with Ctrl-b d; the agent goes on.

    With --json, say how instead: the command to run in a terminal.
    """
    with find(run) as client:
        terminal = client.request("screen", agent=agent, read_only=read_only, timeout=30.0)
        execution_id = client.execution_id
    if json_wanted:
        as_json("connect", {"execution_id": execution_id, "agent": agent, **terminal, "env": sorted(terminal["env"])})
        return
    need_terminal("connect")
    become(terminal)
