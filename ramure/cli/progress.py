"""``progress()``: what ``ramure run`` shows, in a program of one's own."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from ramure.cli.watch import EVERY, Display, Watch, display_for

__all__ = ["Progress", "progress"]


class Progress:
    """What :func:`progress` returns: use it with ``with``."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is None:
            display = display_for(own=True)
            self._thread = threading.Thread(target=self._show, args=(display,), name="ramure progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)  # a run whose loop waits here does not answer

    def _show(self, display: Display) -> None:
        watch = Watch(os.getpid())
        try:
            while not self._stop.wait(self._every):
                watch.look()
                display.show(watch.runs.values())
            watch.look()
        finally:
            display.close(watch.runs.values())
            watch.close()


def progress(*, every: float = EVERY) -> Progress:
    """Show what the runs of this program do, while a ``with`` block lasts.

    Write ``with progress(): asyncio.run(main())``. On a terminal, a live table of the agents, what each does and for how long, tokens and cost; what the program prints goes on
    above it. Elsewhere, a line on standard error for each change. ``every``: seconds between two looks. At the end a line for
    each run stays. It runs in a thread of its own, and asks the runs over their control socket.
    """
    return Progress(every)
