"""``ramure suspend``: have an actor handle no messages."""

from __future__ import annotations

import click

from ramure.cli.actors import actor_argument, told
from ramure.cli.common import as_json, find, json_option, run_option

__all__ = ["command"]


@click.command("suspend", epilog="Example: ramure suspend main#1; ramure resume main#1")
@actor_argument
@run_option
@json_option
def command(actor: str, run: str | None, json_wanted: bool) -> None:
    """Have ACTOR handle no messages until `ramure resume ACTOR`; they wait in its mailbox. For looking into it.

    It happens in its turn, behind what waits already, as OTP's sys:suspend. To stop an agent's work, use `ramure pause`.
    """
    with find(run, timeout=15.0) as client:
        deed = client.request("suspend", actor=actor)
        execution_id = client.execution_id
    if json_wanted:
        as_json("suspend", {"execution_id": execution_id, **deed})
    else:
        click.echo(f"{told('suspended', deed)}; `ramure resume {deed['id']}` undoes it")
