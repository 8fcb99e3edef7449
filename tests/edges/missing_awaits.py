"""Programs of the tests and docs with an `await` taken away from a verb of ramure's, at random: run, and what they say."""

from __future__ import annotations

import _thread
import ast
import asyncio
import contextlib
import functools
import gc
import io
import itertools
import linecache
import logging
import random
import re
import signal
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.testing import Conversation, InProcessHarness, Step, run_virtual
from tests.docs.programs import programs
from tests.docs.scripts import SCRIPTS
from tests.e2e import test_seed

VERBS: Final = frozenset(
    "agent machine connect wait supervise receive send ask interrupt exec call attach cancel stop monitor link ref".split()
)
"""Names of functions and methods whose `await` is taken away; calls of the program's own processes come to these."""

LIMIT: Final = 10.0
"""Seconds for a program: one that tries again until a try succeeds does so for ever when each lacks its `await`."""

MOST: Final = 1000
"""Warnings of a program that are kept."""

REAL: Final = r"\b(Sandbox|Docker|SSH|Local)Image\("
"""A program that has this uses a real machine, whose processes know nothing of virtual time."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    """With the `await` missing."""
    line: int
    """Of the missing `await`; 0: none is missing."""
    removed: str
    script: Any

    def __str__(self) -> str:
        return f"{self.name}, line {self.line}: {self.removed}"


@dataclass(frozen=True)
class Result:
    value: str
    """What the program printed on its standard output."""
    said: str
    """What it said of itself: warnings, its log, its traceback."""
    error: str


def sources() -> Iterator[tuple[str, str, Any]]:
    """The programs that run in the harness: name, code, the model's script."""
    for program in programs():
        fit = (
            not {"docker", "morph", "raises", "args", "first"} & set(program.needs)
            and program.needs.get("pi") != "killed"
            and not (re.search(REAL, program.code) and re.search(r"\bagent\(", program.code))  # that needs a real pi
        )
        if fit and re.search(
            r"^asyncio\.run\(|^    .*asyncio\.run\(|^print\(.*asyncio\.run\(", program.code, re.MULTILINE
        ):
            yield (
                str(program),
                program.code + program.needs.get("then", ""),
                SCRIPTS.get(program.needs.get("pi", ""), []),
            )
    for name, (code, _) in test_seed.PROGRAMS.items():
        yield name, code, test_seed.script


def cases(seed: int, count: int) -> list[Case]:
    """So many, drawn from all awaits of all programs."""
    draw = random.Random(seed)
    found = [case for name, code, script in sources() for case in removals(name, code, script)]
    return draw.sample(found, min(count, len(found)))


def body_of(node: ast.AST) -> list[ast.stmt]:
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else []


def removals(name: str, code: str, script: Any) -> Iterator[Case]:
    tree = ast.parse(code)
    processes = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
        and any("agent_process" in ast.unparse(d) for d in node.decorator_list)
    }
    lines = code.splitlines(keepends=True)
    at_once = {
        id(
            before.value.value
        )  # an eager verb may stand without `await`; but what follows here asserts what it brought about
        for block in ast.walk(tree)
        for before, after in itertools.pairwise(body_of(block))
        if isinstance(after, ast.Assert) and isinstance(before, ast.Expr) and isinstance(before.value, ast.Await)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Await) and isinstance(node.value, ast.Call)):
            continue
        if id(node.value) in at_once:
            continue
        called = node.value.func
        word = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if word in processes or (word in VERBS and not (word == "wait" and isinstance(called, ast.Attribute))):
            row = node.lineno - 1
            line = lines[row]
            at = len(line.encode()[: node.col_offset].decode())
            assert line[at:].startswith("await "), line
            changed = [*lines[:row], line[:at] + line[at + len("await ") :], *lines[row + 1 :]]
            yield Case(name, "".join(changed), node.lineno, ast.unparse(node), script)


def run(case: Case, directory: Path) -> tuple[Result, str]:
    """Run it in the harness; and ``file:line`` of its missing `await`."""
    file = directory / f"program_{next(_numbers)}.py"
    code = re.sub(r"^(\s*)@agent_process\((?=.)", r"\1@agent_process(", case.code, flags=re.MULTILINE)
    code = code.replace("asyncio.run(", "_run(")
    file.write_text(code, encoding="utf-8")
    harness = InProcessHarness(_copy(case.script))
    name = f"program_{case.line}"
    module = types.ModuleType(name)
    start = _real if re.search(REAL, code) else _virtual
    module.__dict__.update(__name__="__main__", __file__=str(file), _run=functools.partial(start, harness))
    log, out, error = io.StringIO(), io.StringIO(), ""
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    endless = threading.Timer(LIMIT, _thread.interrupt_main)  # as Ctrl-C of a person who has read enough
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
    endless.start()
    told: list[str] = []

    def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        if len(told) < MOST:  # a loop without its await warns for ever
            told.append(f"{message} at {filename}:{lineno}")

    with warnings.catch_warnings(), contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        warnings.showwarning = note
        pytests, sys.modules["__main__"] = (
            sys.modules["__main__"],
            module,
        )  # where its classes' annotations are looked up
        try:
            exec(compile(code, str(file), "exec"), module.__dict__)
        except BaseException as raised:
            error = "".join(traceback.format_exception(raised))
            del raised
        endless.cancel()
        sys.modules["__main__"] = pytests
        signal.signal(signal.SIGINT, before)
        module.__dict__.clear()
        gc.collect()
    logging.getLogger().removeHandler(handler)
    linecache.checkcache()
    said = "\n".join([log.getvalue(), *told, error]).replace('", line ', ":")
    return Result(out.getvalue(), said, error), f"{file}:{case.line}"


def _copy(script: Any) -> Any:
    if isinstance(script, list):
        return list(script)

    def play(conversation: Conversation) -> Step:
        step: Step = script(conversation)
        return step

    return play


def _real(harness: InProcessHarness, main: Any) -> Any:
    with _default_image(harness):
        return asyncio.run(main)


def _virtual(harness: InProcessHarness, main: Any) -> Any:
    """``asyncio.run`` in virtual time, on the harness where no image is given."""

    async def go() -> Any:
        return await main

    with _default_image(harness):
        return run_virtual(go(), limit=900.0)  # a program that waits for what it never asked for


@contextlib.contextmanager
def _default_image(harness: InProcessHarness) -> Iterator[None]:
    from ramure.runtime.process import ownership

    before: Callable[[], Any] = ownership.LocalImage
    ownership.LocalImage = lambda: harness.image  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        ownership.LocalImage = before  # type: ignore[misc,assignment]
