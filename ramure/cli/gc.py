"""``ramure gc``: remove what killed runs have left."""

from __future__ import annotations

import click

from ramure.cli.common import as_json, json_option
from ramure.runtime.gc import sweep
from ramure.runtime.paths import Home

__all__ = ["command"]


@click.command("gc", epilog="Example: ramure gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def command(dry_run: bool, json_wanted: bool) -> None:
    """Remove what runs whose program was killed have left: processes, temporary directories, sockets.

    Logs are kept; calls that were under way are marked in them as unknown. Live runs, and whatever no run of this home
    has started, are not touched. The next run's start does the same.
    """
    found = sweep(Home.find().runtimes, dry_run=dry_run, wait=True)
    if json_wanted:
        as_json("gc", {"dry_run": dry_run, "found": [leftover.as_dict() for leftover in found]})
    elif not found:
        click.echo("nothing is left of killed runs")
    else:
        for leftover in found:
            click.echo(leftover)
    if any(leftover.error for leftover in found):
        raise SystemExit(1)
