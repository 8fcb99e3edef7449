"""A beginner's mistake as a program, and what has to be said of it: what is wrong, where, and what to write instead."""

from __future__ import annotations

import gc
import inspect
import logging
import traceback
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ramure import agent_process
from ramure.testing import Conversation, InProcessHarness, Step, ToolCall, run_virtual

Main = Callable[[], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Mistake:
    """``how``: the error's type, or "warning" for one line of the log, or "python" for Python's own warning."""

    main: Main
    how: type[BaseException] | str
    what: str
    remedy: str
    script: Callable[[Conversation], Step]

    def __str__(self) -> str:
        return self.main.__name__

    @property
    def where(self) -> str:
        """The line that is marked with ``# here``."""
        lines, first = inspect.getsourcelines(self.main)
        file = inspect.getsourcefile(self.main)
        return f"{file}:{first + next(number for number, line in enumerate(lines) if line.rstrip().endswith('# here'))}"


def says(conversation: Conversation) -> Step:
    return "said"


def calls(tool: str, **arguments: Any) -> Callable[[Conversation], Step]:
    """A model that calls this tool once."""
    return lambda c: ToolCall(tool, arguments) if not c.tool_results else "said"


class Mistakes(list[Mistake]):
    def add(
        self, how: type[BaseException] | str, what: str, remedy: str, script: Callable[[Conversation], Step] = says
    ) -> Callable[[Main], Main]:
        def decorate(main: Main) -> Main:
            self.append(Mistake(main, how, what, remedy, script))
            return main

        return decorate


def told(mistake: Mistake, records: list[logging.LogRecord]) -> list[str]:
    """What a program with the mistake tells its author, by the way that the mistake is to be told."""
    harness = InProcessHarness(mistake.script)
    error: BaseException | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run_virtual(agent_process(image=harness.image)(mistake.main)())
        except Exception as raised:
            error = raised
        texts = "" if error is None else "".join(traceback.format_exception(error))
        kind = type(error)
        del error
        gc.collect()  # what was never awaited is told here, and not in another test
    if isinstance(mistake.how, type):
        assert issubclass(kind, mistake.how), texts or "no error"
        return [texts.replace('", line ', ":").replace('File "', "")]
    assert kind is type(None), texts
    if mistake.how == "python":
        return [str(each.message).replace('", line ', ":").replace('File "', "") for each in caught]
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]
