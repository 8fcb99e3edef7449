"""Work in a thread that nobody has to wait for: neither the end of the loop, as for its executor's, nor of the program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_daemon_thread"]

P = ParamSpec("P")
R = TypeVar("R")


def in_daemon_thread(name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
    """Call a blocking function in a thread of its own, and give a future for what it returns or raises. A program that ends
    meanwhile ends it, wherever it is; whoever cancels the future leaves it to itself."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[R] = loop.create_future()
    hold_time: Callable[[asyncio.Future[R]], None] | None = getattr(loop, "hold_time", None)
    if hold_time is not None:
        hold_time(answer)  # a loop whose time is virtual must not let it jump while the thread works

    def settle(how: Callable[[Any], None], what: object) -> None:
        if not answer.done():
            how(what)

    def work() -> None:
        how: Callable[[Any], None]
        what: object
        try:
            how, what = answer.set_result, function(*args, **kwargs)
        except Exception as error:
            how, what = answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, how, what)

    threading.Thread(target=work, name=name, daemon=True).start()
    return answer
