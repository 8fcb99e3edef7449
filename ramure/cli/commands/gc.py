"""``ramure gc``: remove what killed runs have left."""

from __future__ import annotations

import time

import click

from ramure.cli.common import as_json, json_option, seconds_of, usage_error
from ramure.runtime.run.gc import sweep
from ramure.runtime.run.paths import Home

__all__ = ["command"]


@click.command("gc", epilog="Example: ramure gc --logs --older-than 30d --dry-run")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--logs", "logs_too", is_flag=True, help="Also the logs of runs that ended long ago.")
@click.option("--older-than", metavar="TIME", help="With --logs: their age, as 30d, 12h.")
@json_option
def command(dry_run: bool, logs_too: bool, older_than: str | None, json_wanted: bool) -> None:
    """Remove what runs whose program was killed have left: processes, temporary directories, sockets.

    Logs are kept, unless --logs and --older-than say which go; calls that were under way are marked in them as unknown. Live runs, and whatever no run of this home
    has started, are not touched. The next run's start does the same.
    """
    if logs_too != (older_than is not None):
        usage_error("write --logs with --older-than: which logs are to go, as in `ramure gc --logs --older-than 30d`")
    age = seconds_of(older_than) if older_than is not None else None
    if older_than is not None and age is None:
        usage_error(f"--older-than {older_than!r} is no time; write 30d, 12h, 10m or 30s")
    found = sweep(Home.find().runtimes, dry_run=dry_run, wait=True)
    if age is not None:
        from ramure.runtime.log.old import remove_old_logs

        found += remove_old_logs(Home.find().runtimes.parent, time.time() - age, dry_run=dry_run)
    if json_wanted:
        as_json("gc", {"dry_run": dry_run, "found": [leftover.as_dict() for leftover in found]})
    elif not found:
        click.echo("nothing is left of killed runs")
    else:
        for leftover in found:
            click.echo(leftover)
    if any(leftover.error for leftover in found):
        raise SystemExit(1)
