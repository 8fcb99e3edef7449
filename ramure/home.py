"""ramure's own directory: ``$RAMURE_HOME``, else ``~/.ramure``. Directories in it are private (mode 0700)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ramure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["private_dir", "ramure_home"]


def ramure_home(environ: Mapping[str, str] | None = None) -> Path:
    """Where ramure keeps what it makes; absolute, and not created by this call.

    Raises :class:`UsageError` where the user has no home directory.
    """
    given = (os.environ if environ is None else environ).get("RAMURE_HOME")
    try:
        return Path(given).expanduser().absolute() if given else Path.home() / ".ramure"
    except RuntimeError:
        raise UsageError(
            f"this user (uid {os.getuid()}) has no home directory: set RAMURE_HOME, or HOME, to a directory of yours"
        ) from None


def private_dir(path: Path) -> Path:
    """Make ``path``, and each directory missing above it, with mode 0700, whatever the umask; return it.

    One that exists keeps its mode: ``ramure doctor`` says when that is too open.
    """
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)  # a umask can only take away more
        directory.chmod(0o700)
    return path
