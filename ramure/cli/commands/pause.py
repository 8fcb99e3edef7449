"""``ramure pause``: stop agents from working, and from spending."""

from __future__ import annotations

import click

from ramure.cli.common import as_json, find, json_option, optional_agent, run_option

__all__ = ["command"]


@click.command("pause", epilog="Example: ramure pause; ramure pause worker")
@optional_agent
@run_option
@json_option
def command(agent: str | None, run: str | None, json_wanted: bool) -> None:
    """Pause AGENT, or all agents of the run and those to come, until `ramure resume`.

    What the model is doing is interrupted, and messages wait in the log, so no tokens are used. The program, its
    processes and tool calls under way go on.
    """
    with find(run) as client:
        paused: list[str] = client.request("pause", agent=agent, timeout=30.0)
        execution_id = client.execution_id
    if json_wanted:
        as_json("pause", {"execution_id": execution_id, "paused": paused})
    elif paused:
        click.echo(f"paused: {', '.join(paused)}")
    else:
        click.echo("nothing was to be paused" if agent else "no agent is to be paused; new ones begin paused")
