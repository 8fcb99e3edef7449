"""``ramure call``: call an endpoint."""

from __future__ import annotations

import json
from typing import Any

import click

from ramure.cli.common import as_json, find, json_option, run_option, usage_error
from ramure.runtime.control.values import plain

__all__ = ["command"]


def _endpoints(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    with find(ctx.params.get("run"), 1.0) as client:
        processes = client.request("status")["processes"]
    return sorted({name for each in processes for name in each["endpoints"] if name.startswith(incomplete)})


@click.command("call", epilog="Example: ramure call add_task spec='Write a haiku' retries=3")
@click.argument("endpoint", shell_complete=_endpoints)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@run_option
@click.option("--as", "process", metavar="PROCESS", help="The process, if several have the endpoint: its path or name.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait for the answer; for ever if not said.")
@json_option
def command(
    endpoint: str,
    arguments: tuple[str, ...],
    run: str | None,
    process: str | None,
    timeout: float | None,
    json_wanted: bool,
) -> None:
    """Call ENDPOINT of a process, and print what it returns.

    A VALUE is taken as JSON if it is some (3, true, [1, 2], "3"), else as text. A result that is a text is printed
    as it is, any other as JSON.
    """
    given = dict(map(_argument, arguments))
    with find(run) as client:
        value = client.request("call", endpoint=endpoint, arguments=given, process=process, timeout=timeout)
        if json_wanted:
            as_json("call", {"execution_id": client.execution_id, "endpoint": endpoint, "value": plain(value)})
        elif isinstance(value, str):
            click.echo(value)
        elif value is not None:
            click.echo(json.dumps(plain(value), ensure_ascii=False))


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        usage_error(f"{text!r} is no argument; write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
