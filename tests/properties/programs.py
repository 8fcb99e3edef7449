"""Programs as data: what a process does, step by step, and how such programs are drawn.

Every step that waits does so for a bounded time, if the runtime keeps its promises: whatever the order, a program ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

__all__ = ["Program", "programs"]


@dataclass(frozen=True)
class Program:
    """The body of a process. ``timeout`` is the process's own; ``returns``: whether it returns a value."""

    steps: tuple[Step, ...] = ()
    returns: bool = True
    timeout: float | None = None


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Emit:
    """``thread``: from another thread."""

    thread: bool = False


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Fail:
    pass


@dataclass(frozen=True)
class Raise:
    pass


@dataclass(frozen=True)
class Wait:
    """For done or fail, at most as long as this; that nothing came is no failure."""

    seconds: float


@dataclass(frozen=True)
class Spawn:
    program: Program
    bubbled: bool


@dataclass(frozen=True)
class Nest:
    """``await other()``; ``caught``: its failure is no failure of this process."""

    program: Program
    caught: bool


@dataclass(frozen=True)
class Gather:
    programs: tuple[Program, ...]
    caught: bool


@dataclass(frozen=True)
class Supervise:
    """``restarts``: of each child, its restart type."""

    children: tuple[tuple[Program, str], ...]
    strategy: str
    max_restarts: int
    bubbled: bool


@dataclass(frozen=True)
class Await:
    """The result of one of the processes spawned so far, anywhere; bounded where that may wait for us."""

    which: int


@dataclass(frozen=True)
class Cancel:
    which: int


@dataclass(frozen=True)
class Exit:
    """An exit signal to one of the processes spawned so far, anywhere: ``ref.exit(reason)``."""

    which: int
    reason: str


@dataclass(frozen=True)
class ExitSelf:
    reason: str


@dataclass(frozen=True)
class Link:
    which: int


@dataclass(frozen=True)
class Expose:
    """An endpoint; its steps run in this process, at each call."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Call:
    which: int
    name: str


@dataclass(frozen=True)
class Tell:
    which: int


@dataclass(frozen=True)
class Receive:
    seconds: float


@dataclass(frozen=True)
class Task:
    """``start_task``."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Within:
    """``async with asyncio.timeout(seconds)``."""

    seconds: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Cleanup:
    """``try: steps finally: emit, sleep, emit``; ``swallow``: a cancellation ends there."""

    steps: tuple[Step, ...]
    seconds: float
    swallow: bool


@dataclass(frozen=True)
class Agent:
    """An agent with a tool whose handler does ``steps``; ``kill``: its pi is killed while it is asked to use it."""

    steps: tuple[Step, ...]
    kill: bool


@dataclass(frozen=True)
class Attach:
    """An agent gets the endpoints of a process as tools, and is asked to use one of them."""

    which: int
    name: str


Step = (
    Sleep | Emit | Done | Fail | Raise | Wait | Spawn | Nest | Gather | Supervise | Await | Cancel | Exit | ExitSelf
    | Link | Expose | Call | Tell | Receive | Task | Within | Cleanup | Agent | Attach
)  # fmt: skip

SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.0])
WHICH = st.integers(0, 7)
NAMES = st.sampled_from("xy")
REASONS = st.sampled_from(["kill", "shutdown", "normal", "boom"])
LEAVES = st.one_of(
    st.builds(Sleep, SECONDS),
    st.builds(Emit),
    st.just(Done()),
    st.just(Fail()),
    st.just(Raise()),
    st.builds(Wait, SECONDS),
    st.builds(Await, WHICH),
    st.builds(Cancel, WHICH),
    st.builds(Exit, WHICH, REASONS),
    st.builds(ExitSelf, REASONS),
    st.builds(Link, WHICH),
    st.builds(Call, WHICH, NAMES),
    st.builds(Tell, WHICH),
    st.builds(Receive, SECONDS),
    st.builds(Emit, st.booleans()),
    st.builds(Attach, WHICH, NAMES),
)


def _steps(depth: int, most: int = 4, least: int = 0) -> st.SearchStrategy[tuple[Step, ...]]:
    return st.lists(_step(depth), min_size=least, max_size=most).map(tuple)


def _program(depth: int) -> st.SearchStrategy[Program]:
    timeouts = st.one_of(st.none(), st.none(), st.none(), st.sampled_from([0.25, 1.0, 3.0]))
    return st.builds(Program, _steps(depth), st.booleans(), timeouts)


def _step(depth: int) -> st.SearchStrategy[Step]:
    if depth == 0:
        return LEAVES
    program, steps, short = _program(depth - 1), _steps(depth - 1), _steps(0, 2)
    return st.one_of(
        LEAVES,
        st.builds(Spawn, program, st.booleans()),
        st.builds(Spawn, program, st.just(True)),
        st.builds(Spawn, program, st.just(True)),
        st.builds(Nest, program, st.booleans()),
        st.builds(Gather, st.lists(program, min_size=1, max_size=3).map(tuple), st.booleans()),
        st.builds(
            Supervise,
            st.lists(st.tuples(program, st.sampled_from(["transient", "temporary"])), min_size=1, max_size=3).map(
                tuple
            ),
            st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
            st.integers(0, 3),
            st.booleans(),
        ),
        st.builds(Expose, NAMES, short),
        st.builds(Task, steps),
        st.builds(Within, SECONDS, steps),
        st.builds(Cleanup, steps, SECONDS, st.booleans()),
        st.builds(Agent, short, st.booleans()),
    )


def programs() -> st.SearchStrategy[Program]:
    """Any program, three levels of processes deep."""
    spawned = st.builds(Spawn, st.builds(Program, _steps(2, 6, 2), st.booleans()), st.just(True))
    steps = st.tuples(spawned, _steps(3, 8, 3)).map(lambda drawn: (drawn[0], *drawn[1]))
    return st.builds(Program, steps, st.booleans())
