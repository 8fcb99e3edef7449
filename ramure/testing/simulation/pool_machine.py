"""A running pool as a state machine of Hypothesis: it adds tasks, kills agents, cancels children and lets time pass."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ramure.api import agent_process, current_runtime, spawn
from ramure.errors import RamureError, UsageError
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.run.run import cancel_and_wait
from ramure.testing.scripts import Script
from ramure.testing.simulation.execute import own_home, quiet_logger, real_handler
from ramure.testing.simulation.faults import Faults, Plan
from ramure.testing.simulation.loop import Order, SimulationLoop
from ramure.testing.simulation.stage import staged
from ramure.testing.simulation.verdict import verdict
from ramure.testing.simulation.world import SimulatedRun, World

__all__ = ["PoolMachine"]

PATIENCE: Final = 3600.0
"""Virtual seconds that one rule may take."""


class PoolMachine(RuleBasedStateMachine):
    """Derive from it, say which ``pool`` and ``model`` it is about and how ``add`` gives the pool a task, and use
    ``YourMachine.TestCase``. ``check(run)`` is called after each rule, ``check_end(run)`` when the pool has been cancelled at the
    end. Rules and invariants of your own go beside those of this class.

    Everything runs on one virtual loop. A failure shrinks to fewer and simpler steps, as Hypothesis prints them.
    """

    pool: ClassVar[Callable[..., Awaitable[Any]]]
    model: ClassVar[Script]
    args: ClassVar[tuple[Any, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.simulated: SimulatedRun = SimulatedRun(0, self.args)
        self.handle: Any = None
        """The pool's."""
        self.added: list[str] = []
        """The tasks that were added."""
        self._stage = contextlib.ExitStack()
        self._loop = SimulationLoop(Order(0), limit=1e7, quiet=1e7, max_turns=10_000_000)
        plan = Plan(Faults(), 0, ())
        self._world = World(type(self).model, plan, self.simulated, self._loop, lambda: None)
        original = real_handler()

        async def handled(calls: Any, entry: Any, call: Any) -> Any:
            return await self._world.handle(calls, entry, call, original)

        self._stage.enter_context(own_home())
        self._stage.enter_context(quiet_logger())
        made = staged(self._loop, 0, self._world.on_line, self._world.image, handled)
        self._world.wall, self._world.logs = self._stage.enter_context(made)
        self._context = contextvars.copy_context()
        self._main = self._loop.create_task(self._live())
        self.advance(0)

    async def _live(self) -> None:
        @agent_process(image=self._world.image)
        async def simulation() -> None:
            self._context = contextvars.copy_context()
            self._world.processes = current_runtime().processes
            function: Any = type(self).pool
            self.handle = spawn(function, *self.simulated.args)
            try:
                await self.handle
            except RamureError as error:
                self.simulated.error = error

        await simulation()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the process that has spawned the pool, for at most an hour of virtual time; its result."""

        async def limited() -> Any:
            async with asyncio.timeout(PATIENCE):
                return await work

        return self._loop.run_until_complete(self._loop.create_task(limited(), context=self._context))

    # -- for who derives from it

    async def add(self, task: str) -> None:
        """Give the pool a task; by default by its endpoint ``add_task(spec)``."""
        await self.handle.call("add_task", spec=task)

    def check(self, run: SimulatedRun) -> None:
        """Raise what is wrong while it runs."""

    def check_end(self, run: SimulatedRun) -> None:
        """Raise what is wrong when it has ended."""

    # -- rules

    @property
    def agents(self) -> list[str]:
        """The addresses of agents whose pi runs, in order."""
        lives = (life for machine in self._world.machines for life in machine.tmux.lives.values())
        return sorted(life.name for life in lives if life.ending is None)

    @property
    def children(self) -> list[ProcessRecord]:
        """The pool's live children, in order."""
        return [each for _, each in sorted(self._world.processes.items()) if each.outcome is None and each.number > 2]

    @rule()
    def add_task(self) -> None:
        """One more task."""
        task = f"task {len(self.added) + 1}"
        self.added.append(task)
        self.do(self.add(task))
        self.advance(0)

    @precondition(lambda self: self.agents)
    @rule(number=st.integers(0, 9))
    def kill(self, number: int) -> None:
        """``kill -9`` of one agent's pi."""
        self._world.kill(self.agents[number % len(self.agents)])
        self.advance(0)

    @precondition(lambda self: self.children)
    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        """Cancel one of the pool's children."""
        self.do(cancel_and_wait(self.children[number % len(self.children)]))

    @rule(seconds=st.integers(0, 600))
    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self._loop.run_until_complete(asyncio.sleep(seconds + 0.01))

    @invariant()
    def _checked(self) -> None:
        if self.handle is None:
            raise UsageError(f"{type(self).__name__}.pool did not start")
        self.check(self.simulated)

    def teardown(self) -> None:
        """Cancel the pool; then nothing of it may be left."""
        try:
            self.do(self.handle.cancel())
            self._loop.run_until_complete(self._main)
            self.advance(30)
            left = [task.get_name() for task in asyncio.all_tasks(self._loop)]
            self.simulated.ended, self.simulated.error = True, None
            found = verdict(self._world, left, ())
            assert found is None, found.text
            self.check_end(self.simulated)
        finally:
            self._loop.give_up()
            self._loop.close()
            self._stage.close()
