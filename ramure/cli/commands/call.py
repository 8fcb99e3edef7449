"""``ramure call``: call an endpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ramure.cli.common import (
    SECONDS,
    Failed,
    as_json,
    exit_code,
    find,
    json_option,
    run_option,
    said,
    usage_error,
)
from ramure.runtime.control.errors import RequestFailed
from ramure.runtime.control.values import plain

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = ["command"]


def _endpoints(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    names = {name for each in _live(ctx) for name in each["endpoints"]}
    return sorted(name for name in names if name.startswith(incomplete))


def _processes(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Those that have endpoints."""
    having = [each["path"] for each in _live(ctx) if each["endpoints"]]
    return sorted(path for path in having if path.startswith(incomplete))


def _live(ctx: click.Context) -> list[dict[str, Any]]:
    """Of the run that was said, else of all."""
    from ramure.runtime.control.blocking import ask_each

    wanted = ctx.params.get("run") or ""
    answers, _ = ask_each("status", timeout=1.0)
    found = [each for run, status in answers.items() if run.startswith(wanted) for each in status["processes"]]
    return [each for each in found if each["state"] == "running"]


@click.command("call", epilog="Example: ramure call add_task spec='Write a haiku' retries=3")
@click.argument("endpoint", shell_complete=_endpoints)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@run_option
@click.option(
    "--as",
    "process",
    metavar="PROCESS",
    shell_complete=_processes,
    help="The process, if several have the endpoint: its path or name.",
)
@click.option(
    "--timeout", type=SECONDS, metavar="SECONDS", help="How long to wait for the answer; for ever if not said."
)
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

    The endpoint's annotations say what a VALUE is: for a text, its characters (or a JSON string); for true or false, also yes, no, on, off,
    1 and 0; for a list or an object, JSON; for a date, 2024-05-31. Where there is no annotation, it is JSON if it is some
    (3, true, [1, 2], "3"), else a text. A result that is a text is printed as it is, any other as JSON.
    """
    given = dict(map(_argument, arguments))
    with find(run) as client:
        value = _called(client, timeout, endpoint=endpoint, texts=given, process=process)
        execution_id = client.execution_id
    if json_wanted:
        as_json("call", {"execution_id": execution_id, "endpoint": endpoint, "value": plain(value)})
    elif isinstance(value, str):
        click.echo(value)
    elif value is not None:
        click.echo(json.dumps(plain(value), ensure_ascii=False))


def _called(client: RunClient, limit: float | None, **request: Any) -> Any:
    within = {} if limit is None else {"limit": limit}
    patience = None if limit is None else limit + 5.0  # the run's own words say more than that no answer came
    try:
        return client.request("call", timeout=patience, **request, **within)
    except RequestFailed as error:
        if str(error).endswith("say which"):
            raise Failed(f"{said(error)} with --as", exit_code(error)) from error
        raise


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        usage_error(f"{text!r} is no argument; write NAME=VALUE")
    return name, value
