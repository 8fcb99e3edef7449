"""``ramure doctor``: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import asdict, dataclass

import click

from ramure.agents.pi.toolchain import ToolError, model_config
from ramure.agents.pi.toolchain.find import find_harness, find_tmux
from ramure.cli.common import as_json, json_option
from ramure.home import ramure_home

__all__ = ["Check", "command", "run_checks"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's: what was looked at, what was found, and what mends it if it will not do."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


@click.command("doctor", epilog="Example: ramure doctor --json | jq '.checks[] | select(.ok | not)'")
@json_option
def command(json_wanted: bool) -> None:
    """Say what is there, what is missing, and the command that mends it.

    Exits with status 0 if all is fine, else 1. Says only the names of keys, never their values.
    """
    checks = run_checks()
    if json_wanted:
        as_json("doctor", {"ok": all(c.ok for c in checks), "checks": [asdict(c) for c in checks]})
    else:
        for check in checks:
            click.echo(f"{'ok     ' if check.ok else 'MISSING'}  {check.name:<7} {check.found}")
            if check.remedy:
                click.echo(f"{'':18}{'mend it' if not check.ok else 'note'}: {check.remedy}")
    if not all(check.ok for check in checks):
        raise SystemExit(1)


def run_checks() -> list[Check]:
    """All checks, in the order in which one would mend them."""
    return [_python(), _tmux(), *_harness(), _model(), _home()]


def _python() -> Check:
    return Check("python", True, f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")


def _tmux() -> Check:
    try:
        path, version = find_tmux()
    except ToolError as error:
        return Check("tmux", False, error.problem, error.remedy)
    return Check("tmux", True, f"{version} ({path})")


def _harness() -> list[Check]:
    try:
        harness = find_harness()
    except ToolError as error:
        return [Check(error.tool, False, error.problem, error.remedy)]
    whose = "your own" if harness.source == "own" else "private"
    node = f"{harness.node_version} ({harness.node})" if harness.node else "brought along by pi"
    return [Check("node", True, node), Check("pi", True, f"{harness.pi_version} ({whose}, {harness.pi})")]


def _model() -> Check:
    config = model_config()
    problems = "; ".join(config.problems)
    if not config.configured:
        found = f"none configured in {config.directory}, and no provider's key is in the environment"
        remedy = "start pi and use /login, or set a provider's key, such as ANTHROPIC_API_KEY"
        return Check("model", False, found + (f" ({problems})" if problems else ""), remedy)
    sources = ", ".join(f"{name} ({source})" for name, source in config.providers.items())
    default = f"default {config.default}; " if config.default else ""
    return Check("model", True, f"{default}{sources}", problems)


def _home() -> Check:
    home = ramure_home()
    try:
        info = home.stat()
    except FileNotFoundError:
        return Check("home", True, f"{home} (not made yet)")
    if not stat.S_ISDIR(info.st_mode):
        return Check("home", False, f"{home} is not a directory", f"mv {shlex.quote(str(home))}{{,.old}}")
    if info.st_uid != os.geteuid():
        return Check("home", False, f"{home} belongs to user {info.st_uid}", "set RAMURE_HOME to a directory of yours")
    if info.st_mode & 0o077:
        mode = stat.S_IMODE(info.st_mode)
        remedy = f"chmod 700 {shlex.quote(str(home))}"
        return Check("home", False, f"{home} has mode {mode:04o}: others can look into it", remedy)
    return Check("home", True, str(home))
