"""``ramure ssh``: a shell on an agent's machine."""

from __future__ import annotations

import click

from ramure.cli.common import agent_argument, as_json, find, json_option, run_option
from ramure.cli.terminals import become, need_terminal

__all__ = ["command"]


@click.command("ssh", epilog="Example: ramure ssh worker")
@agent_argument
@run_option
@json_option
def command(agent: str, run: str | None, json_wanted: bool) -> None:
    """A shell on AGENT's machine, in its working directory; AGENT may also be a machine, as "machine 1".

    On this host it is your own shell. With --json, say how instead: the command to run in a terminal (without the
    values of its environment, which may be secret).
    """
    with find(run) as client:
        terminal = client.request("shell", agent=agent, timeout=30.0)
        execution_id = client.execution_id
    if json_wanted:
        names = sorted(terminal["env"])
        as_json("ssh", {"execution_id": execution_id, "agent": agent, **terminal, "env": names})
        return
    need_terminal("ssh")
    become(terminal)
