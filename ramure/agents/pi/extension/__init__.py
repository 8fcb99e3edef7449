"""The extension's TypeScript files, as package data: pi runs ``index.ts`` with ``-e``; there is nothing to compile."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["ENTRY", "sources"]

ENTRY = "index.ts"
"""The file that pi is given; the others must lie beside it."""


def sources() -> dict[str, str]:
    """File name to text, for writing the extension to a folder of an agent's machine."""
    return {f.name: f.read_text("utf-8") for f in files(__name__).iterdir() if f.name.endswith(".ts")}
