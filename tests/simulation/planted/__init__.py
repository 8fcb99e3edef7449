"""Realistic programs, each with one planted bug, and beside it the same program mended.

Written from the public docs alone. Each module has ``planted`` and ``mended`` (processes of the same arguments),
``ARGS`` (each simulated run gets a copy), ``model`` (a script for its agents) and, where the bug breaks what only the
program's author knows, ``at_end`` or ``always``: functions of the simulated run that assert it.
"""
