"""Seeds on several cores: forked processes, so that a program may be any function, and nothing has to be pickled but results."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from ramure.testing.simulation.api import Simulation
    from ramure.testing.simulation.execute import Outcome

__all__ = ["in_processes"]


def in_processes(run: Callable[[int], Outcome], seeds: Sequence[int], jobs: int, found: Simulation) -> int | None:
    """Run all seeds, ``jobs`` at a time; the first that breaks in the order of ``seeds``, and the sum of the others."""
    context = multiprocessing.get_context("fork")
    workers = []
    for number in range(min(jobs, len(seeds))):
        near, far = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(run, seeds[number::jobs], far), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads: none of these is used there
            worker.start()
        far.close()
        workers.append((worker, near))
    broken: list[int] = []
    for worker, near in workers:
        try:
            while (message := near.recv()) is not None:
                _take(message, broken, found)
        finally:
            near.close()
            worker.join()
    order = {seed: place for place, seed in enumerate(seeds)}
    return min(broken, key=order.__getitem__, default=None)


def _take(message: Any, broken: list[int], found: Simulation) -> None:
    if isinstance(message, BaseException):
        raise message
    seed, failed, faults, error, trace = message
    if failed:
        broken.append(seed)
        return
    found.seeds += 1
    found.faults.update(faults)
    found.errors.update([error] if error else [])
    found.traces[seed] = trace


def _work(run: Callable[[int], Outcome], seeds: Sequence[int], results: Connection) -> None:
    """In a worker: until one breaks."""
    try:
        for seed in seeds:
            outcome = run(seed)
            error = outcome.run.error
            kinds = [fault.kind for fault in outcome.run.faults]
            name = "" if error is None else type(error).__name__
            results.send((seed, outcome.failure is not None, kinds, name, outcome.trace))
            if outcome.failure is not None:
                break
        results.send(None)
    except BaseException as error:
        results.send(RuntimeError(f"a simulated run failed in a worker: {error!r}"))
    finally:
        results.close()
        os._exit(0)
