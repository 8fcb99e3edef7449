"""``ramure exec``: a command on an agent's machine."""

from __future__ import annotations

import shlex

import click

from ramure.cli.common import SECONDS, agent_argument, as_json, find, json_option, run_option

__all__ = ["command"]


@click.command(
    "exec",
    epilog="Example: ramure exec worker -- git log --oneline -3; ramure exec worker 'ls | wc -l'",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@run_option
@click.option("--user", default="agent", metavar="NAME", help="Another user of the machine than the agents' own.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Kill it, and all it started, after this time.")
@json_option
@agent_argument
@click.argument("words", nargs=-1, required=True, metavar="[--] COMMAND...")
def command(
    agent: str, words: tuple[str, ...], run: str | None, user: str, timeout: float | None, json_wanted: bool
) -> None:
    """Run a command on AGENT's machine, print its output when it has ended, and exit with its status.

    AGENT may also be a machine, as "machine 1". One word is a shell's line; several are a command and its arguments. Options
    stand before AGENT. Ctrl-C kills the command, and all that it started.
    """
    if words[0] == "--":
        words = words[1:]
    line = words[0] if len(words) == 1 else shlex.join(words)
    with find(run) as client:
        result = client.request(
            "exec",
            agent=agent,
            command=line,
            user=user,
            **({} if timeout is None else {"limit": timeout}),
            timeout=None,
        )
        if json_wanted:
            as_json("exec", {"execution_id": client.execution_id, "agent": agent, "command": line, **result})
            raise SystemExit(0)
    click.echo(result["stdout"].encode("utf-8", "surrogateescape"), nl=False)
    click.echo(result["stderr"].encode("utf-8", "surrogateescape"), nl=False, err=True)
    raise SystemExit(result["exit_code"])
