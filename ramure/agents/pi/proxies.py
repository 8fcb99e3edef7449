"""What goes to this program or to a model on the same machine never goes through a proxy.

pi, like most clients, sends requests for 127.0.0.1 to ``HTTP_PROXY`` too unless ``NO_PROXY`` names it. Pure: no I/O here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["ASK_PROXIES", "PROXIES", "SETTINGS", "exemptions", "proxies_in", "read_proxies"]

PROXIES: Final = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "npm_config_proxy",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
)
"""The variables that name one."""

NO_PROXY: Final = ("NO_PROXY", "no_proxy")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1", "[::1]")  # the last as URLs, and so some clients, spell it

SETTINGS: Final = "settings.json: httpProxy"

ASK_PROXIES: Final = r"""
for name in PROXIES; do eval "value=\${$name-}"; [ -z "$value" ] || printf '%s=set\n' "$name"; done
for name in NO_PROXY no_proxy; do eval "value=\${$name-}"; [ -z "$value" ] || printf '%s=%s\n' "$name" "$value"; done
settings=${PI_CODING_AGENT_DIR:-${HOME-}/.pi/agent}/settings.json
[ -r "$settings" ] && grep -q '"httpProxy"' "$settings" && printf 'SETTINGS=set\n'
:
""".replace("SETTINGS=", f"{SETTINGS}=").replace("PROXIES", " ".join(PROXIES))
"""Prints which proxies a machine has, without their URLs (which may hold a password), and what is exempt."""


def read_proxies(said: str) -> dict[str, str]:
    """What :data:`ASK_PROXIES` printed, as variables."""
    pairs = (line.rpartition("=") if line.endswith("=set") else line.partition("=") for line in said.splitlines())
    return {name: value for name, equals, value in pairs if equals and name in (*PROXIES, *NO_PROXY, SETTINGS)}


def proxies_in(environment: Mapping[str, str]) -> list[str]:
    """The names under which a proxy is set there."""
    return [name for name in (*PROXIES, SETTINGS) if environment.get(name)]


def exemptions(environment: Mapping[str, str], hosts: Iterable[str]) -> dict[str, str]:
    """``NO_PROXY`` and ``no_proxy`` for a process with this environment: as they are, and loopback and ``hosts`` too.

    Nothing where no proxy is set. Where one of the two is set and not the other, both get its value: most clients look at
    one only, and not all at the same.
    """
    if not proxies_in(environment):
        return {}
    wanted = list(dict.fromkeys([*LOOPBACK, *(host for host in hosts if host)]))
    changed: dict[str, str] = {}
    for name, other in (NO_PROXY, NO_PROXY[::-1]):
        present = environment.get(name) or environment.get(other) or ""
        have = present.replace(",", " ").split()
        if "*" in have:  # everything is exempt, which some clients see only where it stands alone
            continue
        missing = [host for host in wanted if host not in have]
        changed[name] = ",".join([*([present.rstrip(", ")] if have else []), *missing])
    return changed
