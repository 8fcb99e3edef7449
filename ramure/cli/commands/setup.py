"""``ramure setup``: find or install a Node and a pi that fit together."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from ramure.agents.pi.toolchain import ToolError, find_tmux, plan_setup, set_up
from ramure.agents.pi.toolchain.find import Harness
from ramure.agents.pi.toolchain.remote import Wishes, find_on, set_up_on, tmux_missing_on
from ramure.cli.common import as_json, json_option
from ramure.errors import UsageError
from ramure.machines.ssh.image import SSHImage

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["command"]


@click.command("setup", epilog="Example: ramure setup --dry-run")
@click.option("--pi", metavar="VERSION", help="This pi (0.74.2 or newer, or latest), not what fits already.")
@click.option("--node", metavar="VERSION", help="A private Node of this version, such as 24 or 22.19.0.")
@click.option("--private", is_flag=True, help="A pi of ramure's own, even if yours on the PATH fits.")
@click.option("--force", is_flag=True, help="Install even what is there already; this is also how to upgrade.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--on", metavar="[USER@]HOST[:PORT]", help="Do so on this host, over SSH, for agents on an SSHImage.")
@json_option
def command(
    pi: str | None, node: str | None, private: bool, force: bool, dry_run: bool, on: str | None, json_wanted: bool
) -> None:
    """Find or install a Node and a pi that fit together.

    Your own pi on the PATH is used if it fits. Otherwise they are installed in RAMURE_HOME (~/.ramure): no root,
    nothing global. Exits with status 1 if something is still missing.

    With --on they are installed there, in ~/.ramure, by the npm and pip of that host, or copied from here where it
    has none or no way to the registries. ~/.ssh/config, the ssh-agent and keys are used as ssh does.
    """
    signal.signal(signal.SIGTERM, _terminated)
    if on is not None:
        asyncio.run(_on(on, Wishes(pi, node, private, force), dry_run, json_wanted))
        return
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
    _tell(harness, lacking, json_wanted)


async def _on(host: str, wishes: Wishes, dry_run: bool, json_wanted: bool) -> None:
    machine = await image_of(host).spawn()
    try:
        if dry_run:
            found = await find_on(machine, wishes)
            fits = isinstance(found, Harness) and not wishes.force
            lines = [
                f"this fits: {found}" if fits else f"{getattr(found, 'problem', 'asked for')}; it would be installed"
            ]
            if json_wanted:
                as_json("setup_plan", {"plan": lines, "installs": not fits})
            else:
                click.echo("\n".join(lines))
            return
        harness = await set_up_on(machine, wishes, lambda line: click.echo(line, err=True))
        lacking = await tmux_missing_on(machine)
    finally:
        await machine.stop()
    _tell(harness, lacking, json_wanted, where=f" on {host}")


def image_of(host: str) -> SSHImage:
    """The image that logs in to ``[user@]host[:port]``; the host may be in brackets, as an IPv6 address is."""
    found = re.fullmatch(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:@]+))(?::(?P<port>\d+))?", host)
    if found is None:
        raise UsageError(f"--on takes [user@]host[:port], not {host!r}")
    port = int(found["port"]) if found["port"] else None
    return SSHImage(found["v6"] or found["name"], user=found["user"], port=port)


def _tell(harness: Harness, lacking: ToolError | None, json_wanted: bool, where: str = "") -> None:
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
        click.echo(f"agents{where} run {harness}")
    if lacking is not None:
        raise lacking


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # as an exception, so that what is under way is cleaned up
