"""``ramure stop``: end a run."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from ramure.cli.common import SECONDS, Failed, as_json, find, json_option, run_argument, run_option
from ramure.runtime.control.errors import RunGone

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = ["command"]


@click.command("stop", epilog="Example: ramure stop --id brave-otter")
@run_argument
@run_option
@click.option("--kill", is_flag=True, help="Kill its program (SIGKILL) instead of asking it: for one that hangs.")
@click.option(
    "--timeout", type=SECONDS, default=30.0, show_default=True, metavar="SECONDS", help="How long to wait for its end."
)
@json_option
def command(wanted: str | None, run: str | None, kill: bool, timeout: float, json_wanted: bool) -> None:
    """End a run: its processes are cancelled, and end with their agents and machines, in order.

    --kill ends the whole program, with all runs in it, at once; what it leaves is removed by its reapers and by
    `ramure gc`.
    """
    with find(run or wanted) as client:
        execution_id = client.execution_id
        if kill:
            pid = client.peer_pid()
            os.kill(pid, signal.SIGKILL)
        else:
            _tell(client)
        if not client.wait_end(timeout):
            raise Failed(f"the run {execution_id} is told to stop, and has not ended within {timeout:g} s; try --kill")
    if json_wanted:
        as_json("stop", {"execution_id": execution_id, "killed": kill})
    else:
        click.echo(f"{execution_id} was killed (pid {pid})" if kill else f"{execution_id} has ended")


def _tell(client: RunClient) -> None:
    try:
        client.request("stop")
    except RunGone as gone:
        if gone.kind == "Timeout":
            raise Failed(f"{gone}; `ramure stop {client.execution_id} --kill` ends its program") from gone
        # It has ended by itself meanwhile.
