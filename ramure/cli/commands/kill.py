"""``ramure kill``: end an actor."""

from __future__ import annotations

import click

from ramure.cli.actors import actor_argument, told
from ramure.cli.common import as_json, find, json_option, run_option
from ramure.cli.text import one_line

__all__ = ["command"]


@click.command("kill", epilog="Example: ramure kill worker --reason shutdown")
@actor_argument
@run_option
@click.option("--reason", metavar="REASON", help="What it ends with; shutdown lets it end in order.")
@json_option
def command(actor: str, run: str | None, reason: str | None, json_wanted: bool) -> None:
    """End ACTOR at once, whatever it does; its supervisor then does what its child specification says.

    Without --reason it is killed, as by Erlang's exit(Pid, kill). `ramure stop` ends a whole run.
    """
    with find(run, timeout=15.0) as client:
        deed = client.request("kill", actor=actor, reason=reason)
        execution_id = client.execution_id
    if json_wanted:
        as_json("kill", {"execution_id": execution_id, **deed})
    elif deed["ended"]:
        click.echo(f"{told('ended', deed)}: {one_line(deed['reason'], 200)}; {one_line(deed['then'], 200)}")
    else:
        click.echo(f"{told('told to end:', deed)}; {one_line(deed['then'], 200)}")
