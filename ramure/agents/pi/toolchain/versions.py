"""Which versions fit together. Pure: no I/O.

Sources: pi's package metadata (``engines``) for Node; for tmux, what libtmux supports.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "NODE_WHEEL",
    "PI_MINIMUM",
    "PI_PACKAGE",
    "PI_PACKAGES",
    "PI_TESTED",
    "TMUX_MINIMUM",
    "Version",
    "node_needed",
    "parse_version",
    "tmux_order",
]


class Version(NamedTuple):
    """Three numbers; a pre-release counts as its release."""

    major: int
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


PI_PACKAGE = "@earendil-works/pi-coding-agent"
PI_PACKAGES = (PI_PACKAGE, "@mariozechner/pi-coding-agent")
"""Names that pi has had on npm, today's first."""

PI_MINIMUM = Version(0, 74)
"""The oldest pi whose extension interface has what ours uses."""

PI_TESTED = Version(0, 87, 1)
"""What ``ramure setup`` installs when npm's newest does not install."""

NODE_WHEEL = Version(24)
"""The major version of a private Node: the newest long-term support that PyPI's wheel has."""

TMUX_MINIMUM = "3.2a"
"""The oldest tmux that libtmux drives; ``remain-on-exit failed`` and ``new-session -e`` are there since 3.2."""


def parse_version(text: str) -> Version | None:
    """The first version number in ``text`` (``v24.19.0``, ``tmux 3.3a``, ``1.5.2``, ``>=22.19``), or None."""
    found = re.search(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    if found is None:
        return None
    return Version(*(int(part or 0) for part in found.groups()))


def node_needed(pi: Version | None, engines: object = None) -> Version:
    """The lowest Node for this pi (None: npm's newest): what its ``engines.node`` says (``>=x.y.z``), else a rule."""
    if isinstance(engines, str) and engines.startswith(">="):
        stated = parse_version(engines)
        if stated is not None:
            return stated
    if pi is not None and pi < (0, 75):
        return Version(20, 6)
    return Version(22, 19)


def tmux_order(text: str) -> Version | None:
    """A tmux version (``3.2a``, ``tmux 3.4``, ``next-3.6``) as something to compare: the letter counts as third number."""
    found = re.search(r"(\d+)\.(\d+)([a-z]?)", text)
    if found is None:
        return None
    major, minor, letter = found.groups()
    return Version(int(major), int(minor), ord(letter) - ord("a") + 1 if letter else 0)
