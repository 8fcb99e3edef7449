"""``ramure send``: a message to an agent."""

from __future__ import annotations

import sys

import click

from ramure.cli.common import agent_argument, as_json, find, json_option, run_option, usage_error

__all__ = ["command"]


@click.command("send", epilog="Example: ramure send worker 'Use the other branch.'")
@agent_argument
@click.argument("text", nargs=-1)
@run_option
@click.option("--queue", is_flag=True, help="When it is idle, not between two steps of what it does now.")
@json_option
def command(agent: str, text: tuple[str, ...], run: str | None, queue: bool, json_wanted: bool) -> None:
    """Send AGENT a message: TEXT, or what is on standard input if there is none (or only "-").

    Done when the message is in the agent's log: it is delivered then, exactly once, whatever happens to pi.
    """
    said = " ".join(text)
    if said in ("", "-"):
        if not said and sys.stdin.isatty():
            usage_error("send needs a text: ramure send AGENT 'Hello.', or on standard input")
        said = sys.stdin.read()
    if not said.strip():
        usage_error("the message is empty")
    with find(run) as client:
        answer = client.request("send", agent=agent, text=said, how="queue" if queue else "steer", timeout=60.0)
        if json_wanted:
            as_json("send", {"execution_id": client.execution_id, "agent": agent, "seq": answer["seq"]})
        else:
            click.echo(f"sent to {agent} (entry {answer['seq']} of its log)")
