"""The command line: ``ramure COMMAND``. One file a command; see :mod:`ramure.cli.main`."""

from ramure.cli.main import main

__all__ = ["main"]
