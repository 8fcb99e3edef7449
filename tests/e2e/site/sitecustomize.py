"""Lets a test that finds a program hanging see where it does: SIGUSR1 prints the stacks of its threads, SIGUSR2 those of
its tasks. On the ``PYTHONPATH`` of the programs that the end-to-end tests run."""

import contextlib
import faulthandler
import signal
import sys


def _tasks(*_: object) -> None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        for task in asyncio.all_tasks(asyncio.get_running_loop()):
            task.print_stack(file=sys.stderr)


with contextlib.suppress(ValueError, RuntimeError):  # not on the main thread, or without stderr: nobody looks then
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGUSR2, _tasks)
