"""``ramure setup``: find or install a Node and a pi that fit together."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from ramure.agents.toolchain import ToolError, find_tmux, plan_setup, set_up
from ramure.cli.common import as_json, json_option

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["command"]


@click.command("setup", epilog="Example: ramure setup --dry-run")
@click.option("--pi", metavar="VERSION", help="This pi (0.74.2 or newer, or latest), not what fits already.")
@click.option("--node", metavar="VERSION", help="A private Node of this version, such as 24 or 22.19.0.")
@click.option("--private", is_flag=True, help="A pi of ramure's own, even if yours on the PATH fits.")
@click.option("--force", is_flag=True, help="Install even what is there already; this is also how to upgrade.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def command(pi: str | None, node: str | None, private: bool, force: bool, dry_run: bool, json_wanted: bool) -> None:
    """Find or install a Node and a pi that fit together.

    Your own pi on the PATH is used if it fits. Otherwise they are installed in RAMURE_HOME (~/.ramure): no root,
    nothing global. Exits with status 1 if something is still missing.
    """
    signal.signal(signal.SIGTERM, _terminated)
    if dry_run:
        plan = plan_setup(pi=pi, node=node, force=force, private=private)
        if json_wanted:
            as_json("setup_plan", {"plan": plan.lines(), "installs": plan.use is None})
        else:
            click.echo("\n".join(plan.lines()))
        return
    harness = set_up(
        pi=pi,
        node=node,
        force=force,
        private=private,
        say=lambda line: click.echo(line, err=True),
    )
    try:
        find_tmux()
        lacking = None
    except ToolError as error:
        lacking = error
    if json_wanted:
        result = {
            "pi": str(harness.pi),
            "pi_version": str(harness.pi_version),
            "node": str(harness.node) if harness.node else None,
            "node_version": str(harness.node_version) if harness.node_version else None,
            "source": harness.source,
            "missing": [{"tool": lacking.tool, "remedy": lacking.remedy}] if lacking else [],
        }
        as_json("setup", result)
    else:
        click.echo(f"agents run {harness}")
    if lacking is not None:
        raise lacking


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # as an exception, so that what is under way is cleaned up
