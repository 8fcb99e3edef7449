"""The scripted model as a process: ``python -m ramure.testing.scripted_model SCRIPT``.

SCRIPT is a JSON file (a list of turns, or an object of these by the text to find) or ``module:name`` of a script in
Python. One JSON line on stdout says when it is up: ``{"base_url": ..., "model": ..., "pid": ...}``. It ends, with
status 0, on SIGTERM and SIGINT, and with ``--while-stdin-open`` when its stdin is closed; with status 1 if the script
had no answer to a request.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from ramure.errors import UsageError
from ramure.testing.scripted_model import ScriptedModel
from ramure.testing.scripts import Script, ScriptError, script_from_json

__all__ = ["load_script", "main"]


def load_script(where: str) -> Script:
    """A script from a JSON file, or from ``module:name``."""
    module, colon, name = where.partition(":")
    if colon and not Path(where).exists():
        sys.path.insert(0, str(Path.cwd()))
        script: Script = getattr(importlib.import_module(module), name)
        return script
    return script_from_json(json.loads(Path(where).read_text(encoding="utf-8")))


async def serve(options: argparse.Namespace) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.while_stdin_open:

        def watch() -> None:
            while os.read(sys.stdin.fileno(), 4096):
                pass  # what it says does not matter, only its end
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=watch, daemon=True).start()
    async with ScriptedModel(load_script(options.script), port=options.port, record=options.record) as model:
        if options.write_config:
            model.write_config(options.write_config)
        print(json.dumps({"base_url": model.base_url, "model": model.model, "pid": os.getpid()}), flush=True)
        await stop.wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ramure.testing.scripted_model", description="Serve a scripted model on the loopback interface."
    )
    parser.add_argument("script", help="a JSON file, or module:name of a script in Python")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--write-config", type=Path, metavar="DIR", help="make DIR an agent directory for pi")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append a JSON line for each request and its end")
    parser.add_argument("--while-stdin-open", action="store_true", help="end when stdin is closed")
    try:
        asyncio.run(serve(parser.parse_args()))
    except (ScriptError, UsageError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
