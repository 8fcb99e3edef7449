"""``ramure resume``: undo ``ramure pause``."""

from __future__ import annotations

import click

from ramure.cli.common import as_json, find, json_option, optional_agent, run_option

__all__ = ["command"]


@click.command("resume", epilog="Example: ramure resume; ramure resume worker")
@optional_agent
@run_option
@json_option
def command(agent: str | None, run: str | None, json_wanted: bool) -> None:
    """Let AGENT, or all agents of the run, go on after `ramure pause`.

    Messages that waited are delivered, and an agent that was at work is told to go on.
    """
    with find(run) as client:
        resumed: list[str] = client.request("unpause", agent=agent, timeout=30.0)
        execution_id = client.execution_id
    if json_wanted:
        as_json("resume", {"execution_id": execution_id, "resumed": resumed})
    else:
        click.echo(f"resumed: {', '.join(resumed)}" if resumed else "nothing was paused")
