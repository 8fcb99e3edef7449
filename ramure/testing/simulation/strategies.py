"""Hypothesis strategies for programs with agents: fault schedules, models, supervision trees, whole programs.

What they draw is data with a readable ``repr``, and shrinks to fewer faults, shorter scripts, fewer children. Hypothesis has
to be installed for this module, and for nothing else in ramure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from hypothesis import strategies as st

from ramure.api import agent, agent_process, done, emit, spawn, wait
from ramure.runtime.trees.handles import child, supervise
from ramure.supervisors.backoff import Backoff
from ramure.testing.conversation import Conversation
from ramure.testing.scripts import Answer
from ramure.testing.simulation.faults import KINDS, LAST_WORDS, OUTCOMES, Fault, Faults, Moment
from ramure.testing.steps import Delay, Text, ToolCall, as_turn

__all__ = [
    "AgentScript",
    "Leaf",
    "ProcessProgram",
    "Tree",
    "agent_scripts",
    "fault_schedules",
    "process_programs",
    "supervision_trees",
]


# -- faults ---------------------------------------------------------------------------------------------------------------


def fault_schedules(
    agents: Sequence[str] = ("worker",), *, kinds: Sequence[str] = tuple(KINDS), most: int = 6, moments: int = 5
) -> st.SearchStrategy[Faults]:
    """At most ``most`` faults of these kinds, at the first ``moments`` requests and tool calls of agents at these addresses.
    They shrink to fewer, earlier and shorter ones."""
    return st.lists(_faults(tuple(agents), tuple(kinds), moments), max_size=most).map(
        lambda found: Faults(exactly=tuple(found), swarm=False)
    )


@st.composite
def _faults(draw: st.DrawFn, agents: tuple[str, ...], kinds: tuple[str, ...], moments: int) -> Fault:
    kind = draw(st.sampled_from(kinds))
    what = draw(st.sampled_from(KINDS[kind]))
    moment = Moment(draw(st.sampled_from(agents)), what, draw(st.integers(1, moments)))
    match kind:
        case "kill_pi" | "kill_machine" | "drop_link":
            return Fault(kind, moment, after=float(draw(st.integers(0, 20))))
        case "slow" | "disk_full" | "reorder":
            return Fault(kind, moment, seconds=float(draw(st.integers(1, 60))))
        case "clock_jump":
            return Fault(kind, moment, seconds=float(draw(st.integers(-3600, 3600))))
        case "provider":
            seconds = float(draw(st.integers(1, 200)))
            outcome: Any = draw(st.sampled_from(OUTCOMES))
            return Fault(kind, moment, seconds=seconds, outcome=outcome)
        case "model_stops":
            return Fault(kind, moment, outcome=draw(st.sampled_from(LAST_WORDS)))
    return Fault(kind, moment)


# -- models ---------------------------------------------------------------------------------------------------------------

Move: TypeAlias = Literal["works", "dawdles", "stops", "repeats", "wrong tool", "wrong arguments"]

MOVES: Final[tuple[Move, ...]] = ("works", "dawdles", "stops", "repeats", "wrong tool", "wrong arguments")


@dataclass(frozen=True)
class AgentScript:
    """A model that does as ``moves`` says, one a request, and then works: what it says then is ``work``'s answer."""

    work: Callable[[Conversation], Answer]
    moves: tuple[Move, ...] = ()

    def __call__(self, conversation: Conversation) -> Answer:
        """The next turn."""
        move = self.moves[conversation.turn - 1] if conversation.turn <= len(self.moves) else "works"
        turn = as_turn(self.work(conversation))
        match move:
            case "dawdles":
                return (Delay(120.0), *turn)
            case "stops":
                return Text("I am done.")
            case "repeats":
                calls = [step for step in turn if isinstance(step, ToolCall)]
                return (*turn, *calls)
            case "wrong tool":
                return ToolCall("no_such_tool", {"text": "hello"})
            case "wrong arguments":
                calls = [step for step in turn if isinstance(step, ToolCall)]
                return ToolCall(calls[0].name, {"nonsense": [1, {}]}) if calls else turn
        return turn

    def __repr__(self) -> str:
        return f"AgentScript({', '.join(self.moves) or 'works'})"


def agent_scripts(work: Callable[[Conversation], Answer], *, most: int = 4) -> st.SearchStrategy[AgentScript]:
    """Models that do at most ``most`` other things before they work: dawdle, stop short, call twice, call wrongly. ``work`` is
    a script of one that works. They shrink to shorter ones."""
    return st.lists(st.sampled_from(MOVES), max_size=most).map(lambda moves: AgentScript(work, tuple(moves)))


# -- supervision trees -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """A child that works."""

    id: str
    restart: Literal["transient", "temporary"] = "transient"


@dataclass(frozen=True)
class Tree:
    """A tree of ``supervise``: its children are leaves and trees."""

    id: str
    children: tuple[Leaf | Tree, ...]
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one"
    max_restarts: int = 3

    @property
    def leaves(self) -> list[str]:
        """The ids of all its leaves, in order."""
        return [leaf for each in self.children for leaf in ([each.id] if isinstance(each, Leaf) else each.leaves)]

    async def run(self, work: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
        """Within a process: run the process ``work(id)`` at each leaf; the results by the leaves' ids. Raises what
        ``await supervise(...)`` raises."""
        function: Any = work
        children = [
            child(function, each.id, id=each.id, restart=each.restart)
            if isinstance(each, Leaf)
            else child(_subtree, each, work, id=each.id)
            for each in self.children
        ]
        tree = await supervise(
            *children,
            strategy=self.strategy,
            max_restarts=self.max_restarts,
            within=600,
            backoff=Backoff(first=0.5, factor=2, limit=30),
        )
        results: dict[str, Any] = {}
        for each, result in zip(self.children, (await tree).values(), strict=True):
            results.update({each.id: result} if isinstance(each, Leaf) else result)
        return results


@agent_process
async def _subtree(tree: Tree, work: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
    return await tree.run(work)


def supervision_trees(*, most: int = 4, deep: int = 2) -> st.SearchStrategy[Tree]:
    """Trees of ``supervise`` with at most ``most`` children each, ``deep`` levels. They shrink to one leaf."""
    return _trees("root", most, deep)


@st.composite
def _trees(draw: st.DrawFn, id: str, most: int, deep: int) -> Tree:
    children: list[Leaf | Tree] = []
    for number in range(draw(st.integers(1, most))):
        name = f"{id}.{number}" if id != "root" else f"{number}"
        if deep > 1 and draw(st.booleans()):
            children.append(draw(_trees(name, most, deep - 1)))
        else:
            children.append(Leaf(name, draw(st.sampled_from(("transient", "temporary")))))
    strategy: Any = draw(st.sampled_from(("one_for_one", "one_for_all", "rest_for_one")))
    return Tree(id, tuple(children), strategy, draw(st.integers(0, 5)))


# -- whole programs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProcessProgram:
    """A whole program, as data: what its process does, one after the other. ``await program()`` runs it, in a simulation too;
    the result counts the tasks that its agents have done. ``("agent", n)`` gives n tasks to an agent, ``("sleep", n)``
    waits n seconds, ``("emit", n)`` emits an event, a program in ``children`` is spawned first and awaited last."""

    steps: tuple[tuple[Literal["agent", "sleep", "emit"], int], ...] = ()
    children: tuple[ProcessProgram, ...] = ()

    async def __call__(self) -> int:
        """Run it."""
        return await _run_program(self)

    @property
    def tasks(self) -> int:
        """How many tasks its agents are given, and those of its children."""
        own = sum(number for kind, number in self.steps if kind == "agent")
        return own + sum(program.tasks for program in self.children)

    @staticmethod
    def model(conversation: Conversation) -> Answer:
        """The script of its agents."""
        wanted = conversation.first_user_text.rpartition("tasks: ")[2]
        answers = [result.text for result in conversation.tool_results]
        if "Recorded." in answers:
            return Text("Done.")
        done_so_far = sum(answer.startswith("task ") for answer in answers)
        return ToolCall("do", {"number": done_so_far}) if done_so_far < int(wanted) else ToolCall("finish")


@agent_process
async def _run_program(program: ProcessProgram) -> int:
    handles = [spawn(_run_program, each) for each in program.children]
    total = 0
    for kind, number in program.steps:
        match kind:
            case "agent":
                total += await _give_tasks(number)
            case "sleep":
                await asyncio.sleep(number)
            case "emit":
                emit("step", number)
    return total + sum([await handle for handle in handles])


@agent_process
async def _give_tasks(number: int) -> int:
    worker = await agent("worker")
    finished: set[int] = set()

    @worker.on("do", once="number")
    async def do(number: int) -> str:
        """Do the task with this number."""
        finished.add(number)
        return f"task {number} done"

    @worker.on("finish")
    async def finish() -> str:
        """Call when all tasks are done."""
        done(len(finished))
        return "Recorded."

    await worker.send(f"Do, and then call finish; tasks: {number}")
    return await wait(int)


def process_programs(*, most: int = 3, deep: int = 2) -> st.SearchStrategy[ProcessProgram]:
    """Whole programs with at most ``most`` steps and children in each process, ``deep`` levels. They shrink to one that does
    nothing."""
    steps = st.lists(st.tuples(st.sampled_from(("emit", "sleep", "agent")), st.integers(0, 4)), max_size=most).map(
        tuple
    )
    if deep == 1:
        return st.builds(ProcessProgram, steps)
    children = st.lists(process_programs(most=most, deep=deep - 1), max_size=most).map(tuple)
    return st.builds(ProcessProgram, steps, children)
