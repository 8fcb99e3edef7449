"""``ramure restart``: have an actor's supervisor start it anew."""

from __future__ import annotations

import click

from ramure.cli.actors import actor_argument, told
from ramure.cli.common import as_json, find, json_option, run_option

__all__ = ["command"]


@click.command("restart", epilog="Example: ramure restart worker")
@actor_argument
@run_option
@json_option
def command(actor: str, run: str | None, json_wanted: bool) -> None:
    """Have ACTOR's supervisor stop it and start it again; of an agent, its pi, with the same conversation.

    It does not count as one of the restarts that the supervisor allows. What is never restarted cannot be: processes that were
    spawned, machines, and the parts of the run itself.
    """
    with find(run, timeout=75.0) as client:
        deed = client.request("restart", actor=actor)
        execution_id = client.execution_id
    if json_wanted:
        as_json("restart", {"execution_id": execution_id, **deed})
    else:
        new = f"now #{deed['new']}" if deed["new"] is not None else "its start is under way"
        click.echo(f"{told('restarted', deed)}; {new}")
