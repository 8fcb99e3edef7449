"""What a figure was measured on, without anything that says whose machine it is."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Cores, CPU model, operating system and Python."""
    return {"cores": os.cpu_count() or 0, "cpu": _cpu(), "os": _os(), "python": sys.version.split()[0]}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _os() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return f"{platform.system()} {platform.release()}"
    return f"{release.get('NAME', platform.system())} {release.get('VERSION_ID', '')}".strip()
