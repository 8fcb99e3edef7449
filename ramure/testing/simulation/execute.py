"""One run of a case, from a seed: what happened, and what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from ramure.api import agent_process, current_runtime
from ramure.errors import UsageError
from ramure.testing.simulation.faults import Fault, Faults, Plan
from ramure.testing.simulation.invariants import Failure, Invariant, checked
from ramure.testing.simulation.loop import Order, SimulationLoop, Stuck
from ramure.testing.simulation.stage import staged
from ramure.testing.simulation.verdict import verdict
from ramure.testing.simulation.world import SimulatedRun, World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ramure.testing.scripts import Script
    from ramure.types import ExecResult

__all__ = ["Case", "Outcome", "execute", "own_home", "quiet_logger", "real_handler"]

SETTLE = 60
"""Seconds after the end of a program in which what belongs to it must be gone."""


@dataclass(frozen=True)
class Case:
    """What is run, again and again."""

    program: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    model: Script
    faults: Faults
    invariants: tuple[Invariant, ...] = ()
    allow: tuple[type[BaseException], ...] = ()
    exec: Callable[[str], ExecResult] | None = None
    limit: float = 86_400.0
    quiet: float = 600.0
    max_turns: int = 200_000
    max_requests: int = 1000

    @property
    def name(self) -> str:
        """The program's."""
        return str(getattr(self.program, "__name__", "program"))


@dataclass
class Outcome:
    """What a run came to. ``choices``: how often its order was drawn."""

    run: SimulatedRun
    failure: Failure | None
    choices: int
    window: tuple[int, int | None] = (0, None)

    @property
    def trace(self) -> str:
        """A digest of all that happened: equal for equal runs."""
        text = "\n".join(f"{each.at!r} {each.who} {each.kind} {each.text}" for each in self.run.happenings)
        return hashlib.sha256(f"{text}\n{self.failure}".encode()).hexdigest()


def execute(
    case: Case, seed: int, only: Iterable[Fault] | None = None, window: tuple[int, int | None] = (0, None)
) -> Outcome:
    """Run it once. ``only``: with these faults, and none drawn; ``window``: see :class:`Order`."""
    run = SimulatedRun(seed, _copied(case.args))
    order = Order(seed, *window)
    loop = SimulationLoop(order, limit=case.limit, quiet=case.quiet, max_turns=case.max_turns)
    attempt = _Attempt(case, run, loop, Plan(case.faults, seed, only))
    failure = attempt.carry_out(seed)
    return Outcome(run, failure, order.steps, window)


def _copied(args: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return copy.deepcopy(args)
    except Exception as error:
        raise UsageError(
            f"simulate() gives each run a copy of the program's arguments, and these cannot be copied: {error}; "
            "make such an object inside of the program"
        ) from error


@dataclass
class _Attempt:
    case: Case
    run: SimulatedRun
    loop: SimulationLoop
    plan: Plan
    failure: Failure | None = None
    left: list[str] = field(default_factory=list)
    _main: asyncio.Task[Any] | None = None
    _world: World = field(init=False)
    _met: set[int] = field(default_factory=set)

    def carry_out(self, seed: int) -> Failure | None:
        case, loop = self.case, self.loop
        world = self._world = World(case.model, self.plan, self.run, loop, self._look, exec=case.exec)
        original = real_handler()

        async def handled(calls: Any, entry: Any, call: Any) -> Any:
            return await world.handle(calls, entry, call, original)

        loop.set_exception_handler(lambda _, context: _unseen(world, context))
        with quiet_logger(), staged(loop, seed, world.on_line, world.image, handled) as (world.wall, world.logs):
            runner = asyncio.Runner(loop_factory=lambda: loop)
            try:
                runner.run(self._live(world))
            except Stuck as stuck:
                text = f"hangs: {stuck.why}"
                self.failure = self.failure or Failure("hangs", text, "hangs", str(stuck))
            finally:
                self.run.ended = True
                loop.give_up()
                with contextlib.suppress(Stuck, RuntimeError):
                    runner.close()
                if not loop.is_closed():
                    loop.close()
        if self.failure is None:
            self.failure = verdict(world, self.left, case.allow) or self._at_end()
        return self.failure

    async def _live(self, world: World) -> None:
        case = self.case

        @agent_process(image=world.image)
        async def simulation() -> Any:
            world.processes = current_runtime().processes
            return await case.program(*self.run.args)

        self._main = asyncio.ensure_future(simulation())
        await asyncio.wait([self._main])
        world.over()
        if self.failure is not None:
            return
        if self._main.cancelled():
            self.run.error = asyncio.CancelledError()
        else:
            self.run.error = self._main.exception()
            self.run.result = None if self.run.error is not None else self._main.result()
        for _ in range(SETTLE):
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if not left:
                return
            await asyncio.sleep(1)
        self.left = sorted(task.get_name() for task in left)

    def _break(self, failure: Failure) -> None:
        """It is broken already: end it."""
        self.failure = failure
        if self._main is not None:
            self._main.cancel()

    def _look(self) -> None:
        """Something has happened."""
        if self.failure is not None or self.run.ended:
            return
        if len(self._world.requests) > self.case.max_requests:
            text = f"hangs: models have been asked more than {self.case.max_requests} times"
            self._break(Failure("hangs", text, "requests"))
            return
        for number, invariant in enumerate(self.case.invariants):
            found = None
            if invariant.when == "always":
                found = checked(invariant, self.run)
            elif invariant.when == "eventually" and number not in self._met:
                late = invariant.within is not None and self.run.now > invariant.within
                if not late and checked(invariant, self.run) is None:
                    self._met.add(number)
                elif late:
                    text = f"eventually {invariant.name}: not within {invariant.within} virtual seconds"
                    found = Failure("invariant", text, invariant.name)
            if found is not None:
                self._break(found)
                return

    def _at_end(self) -> Failure | None:
        for number, invariant in enumerate(self.case.invariants):
            found = checked(invariant, self.run)
            if invariant.when == "eventually":
                if number in self._met or not self.run.succeeded or found is None:
                    continue
                return Failure("invariant", f"eventually {invariant.name}: never", invariant.name)
            if found is not None:
                return found
        return None


def real_handler() -> Callable[..., Any]:
    """What calls the handler of a tool."""
    from ramure.agents.tools.calls import Calls

    return Calls._handled


def _unseen(world: World, context: dict[str, Any]) -> None:
    """The loop has heard of an error that nobody took."""
    error = context.get("exception")
    world.problems.append(("the event loop", f"nobody has seen that: {context.get('message')} {error!r}"))


@contextlib.contextmanager
def quiet_logger() -> Iterator[None]:
    """What a simulated run warns of is in its story."""
    logger = logging.getLogger("ramure")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def own_home() -> Iterator[None]:
    """A home of its own for the runs, which is removed afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="ramure-simulation-", dir=_memory()) as directory,
        mock.patch.dict(os.environ, {"RAMURE_HOME": directory}),
    ):
        yield


def _memory() -> str | None:
    """A directory in memory, where the system has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
