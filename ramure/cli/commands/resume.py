"""``ramure resume``: undo ``ramure pause``, and ``ramure suspend``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ramure.cli.actors import actor_names
from ramure.cli.common import as_json, find, json_option, run_option
from ramure.runtime.control.errors import RequestFailed

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = ["command"]


@click.command("resume", epilog="Example: ramure resume; ramure resume worker")
@click.argument("actor", required=False, shell_complete=actor_names)
@run_option
@json_option
def command(actor: str | None, run: str | None, json_wanted: bool) -> None:
    """Let an agent, or all agents of the run, go on after `ramure pause`; or an ACTOR after `ramure suspend`.

    Messages that waited are delivered, and an agent that was at work is told to go on.
    """
    with find(run, timeout=30.0) as client:
        resumed = _resumed(client, actor)
        execution_id = client.execution_id
    if json_wanted:
        as_json("resume", {"execution_id": execution_id, "resumed": resumed})
    else:
        click.echo(f"resumed: {', '.join(resumed)}" if resumed else "nothing was paused")


def _resumed(client: RunClient, actor: str | None) -> list[str]:
    try:
        resumed: list[str] = client.request("unpause", agent=actor)
    except RequestFailed as error:
        if actor is None or error.kind != "NoSuchAgent":
            raise
        resumed = []
    if actor is not None and not resumed:  # not a paused agent: it may be suspended, as any actor
        deed = client.request("resume_actor", actor=actor)
        if deed["was_suspended"]:
            resumed = [deed["actor"]]
    return resumed
