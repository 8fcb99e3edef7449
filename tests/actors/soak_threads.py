"""Threads that tell and ask while the loop kills and restarts what they talk to.

``make soak`` runs it for 20 s (``python -m tests.actors.soak_threads --seconds 20 --seed N``); the
tests run it for two. Every message is accounted for: to an event-loop actor, sent = handled + still queued
when it died + dead letters; to every actor, what came from one thread came in order and without a gap, and
the last incarnation, which nobody kills, got all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ramure.actors import Actor, ActorSystem, Ask, Ref, ThreadedActor
from ramure.actors.observe.tracing import TraceEvent
from ramure.errors import ActorDied, AskTimeout, RamureError, StopTimeout

BURST = 20


@dataclass(frozen=True)
class Numbered:
    """Message ``number`` from ``thread`` to one incarnation."""

    thread: int
    number: int


@dataclass
class Account:
    """What one incarnation got."""

    killable: bool
    got: dict[int, list[int]] = field(default_factory=lambda: collections.defaultdict(list))
    queued_at_death: int = 0


class Target(Actor):
    async def init(self, account: Account) -> None:
        self.account = account

    def handle_info(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("told to crash")
        self.account.got[message.thread].append(message.number)

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        if request % 3 == 0:
            await asyncio.sleep(0)
        return ("echo", request)


class ThreadedTarget(ThreadedActor):
    def init(self, account: Account) -> None:
        self.account = account

    def handle_info(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("told to crash")
        self.account.got[message.thread].append(message.number)

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return ("echo", request)


@dataclass
class Slot:
    """A place whose actor is killed and started again, as a supervisor would."""

    kind: type[Any]
    ref: Ref[Any] | None = None
    accounts: dict[Ref[Any], Account] = field(default_factory=dict)


@dataclass
class Report:
    seconds: float = 0.0
    told: int = 0
    asked: int = 0
    answered: int = 0
    refused: int = 0
    ended: int = 0
    dead_letters: int = 0
    wrong: list[str] = field(default_factory=list)


class Soak:
    def __init__(self, seconds: float, seed: int, threads: int = 8) -> None:
        self.seconds = seconds
        self.seed = seed
        self.threads = threads
        self.slots = [Slot(Target), Slot(Target), Slot(Target), Slot(ThreadedTarget)]
        self.sent: dict[tuple[Ref[Any], int], int] = collections.Counter()
        self.over = threading.Event()
        self.report = Report()
        self.lock = threading.Lock()

    # -- the threads --------------------------------------------------------------------------------------

    def thread(self, index: int) -> None:
        chooser = random.Random(self.seed * 1000 + index)
        try:
            if index % 2:
                asyncio.run(self.with_own_loop(index, chooser))
            else:
                self.without_loop(index, chooser)
        except BaseException as error:  # reported, and fails the run
            self.report.wrong.append(f"thread {index}: {error!r}")

    def tell_some(self, index: int, ref: Ref[Any], chooser: random.Random) -> None:
        for _ in range(chooser.randrange(1, BURST)):
            number = self.sent[ref, index]
            self.sent[ref, index] = number + 1
            ref.tell(Numbered(index, number))

    def without_loop(self, index: int, chooser: random.Random) -> None:
        while not self.over.is_set():
            ref = chooser.choice(self.slots).ref
            assert ref is not None
            self.tell_some(index, ref, chooser)
            request = chooser.randrange(1_000_000)
            try:
                self.check(request, ref.ask_sync(request, timeout=5.0))
            except RamureError as error:
                self.refused(error)
            if chooser.random() < 0.02:
                ref.exit("kill")

    async def with_own_loop(self, index: int, chooser: random.Random) -> None:
        while not self.over.is_set():
            ref = chooser.choice(self.slots).ref
            assert ref is not None
            self.tell_some(index, ref, chooser)
            requests = [chooser.randrange(1_000_000) for _ in range(3)]
            answers = await asyncio.gather(*(ref.ask(r, timeout=5.0) for r in requests), return_exceptions=True)
            for request, answer in zip(requests, answers, strict=True):
                if isinstance(answer, BaseException):
                    self.refused(answer)
                else:
                    self.check(request, answer)
            try:
                if chooser.random() < 0.02:
                    await ref.stop(timeout=5.0)
                elif chooser.random() < 0.02 and not ref.is_alive():
                    await ref.wait()
            except RamureError as error:
                self.refused(error)

    def check(self, request: int, answer: object) -> None:
        with self.lock:
            self.report.asked += 1
            self.report.answered += 1
        if answer != ("echo", request):
            self.report.wrong.append(f"asked {request}, got {answer!r}")

    def refused(self, error: BaseException) -> None:
        with self.lock:
            self.report.asked += 1
            self.report.refused += 1
        if isinstance(error, (AskTimeout, StopTimeout)) or not isinstance(error, ActorDied):
            self.report.wrong.append(f"only deaths are expected: {error!r}")

    # -- the loop -----------------------------------------------------------------------------------------

    async def keep(self, system: ActorSystem, slot: Slot) -> None:
        """Start it, again and again, until the end."""
        while True:
            account = Account(killable=True)
            ref = await system.start(slot.kind, account)
            slot.accounts[ref] = account
            slot.ref = ref
            await ref.wait()
            self.report.ended += 1

    async def kill(self, chooser: random.Random) -> None:
        while True:
            await asyncio.sleep(chooser.random() * 0.005)
            ref = chooser.choice(self.slots).ref
            assert ref is not None
            how = chooser.randrange(3)
            if how == 0:
                ref.exit("kill")
            elif how == 1:
                ref.exit("enough")
            else:
                ref.tell("crash")

    def on_end(self, event: TraceEvent) -> None:
        for slot in self.slots:
            if event.actor in slot.accounts:
                waiting = event.actor._cell.queue
                slot.accounts[event.actor].queued_at_death += sum(type(m) is Numbered for m in waiting)

    async def run(self) -> Report:
        started = time.monotonic()
        dead: collections.Counter[Ref[Any]] = collections.Counter()
        async with ActorSystem("soak") as system:
            system._end_listeners.clear()  # crashes are meant here: no log of each
            system.on_dead_letter(lambda ref, message: dead.update([ref] if type(message) is Numbered else []))
            system.trace(callback=self.on_end, kinds=["ended"])
            reapers = [asyncio.ensure_future(self.keep(system, slot)) for slot in self.slots]
            while any(slot.ref is None for slot in self.slots):
                await asyncio.sleep(0)
            killer = asyncio.ensure_future(self.kill(random.Random(self.seed)))
            workers = [threading.Thread(target=self.thread, args=(i,), daemon=True) for i in range(self.threads)]
            for worker in workers:
                worker.start()
            await asyncio.sleep(self.seconds)
            self.over.set()
            for worker in workers:
                await asyncio.to_thread(worker.join, 15.0)
                if worker.is_alive():
                    self.report.wrong.append(f"{worker.name} hangs")
            killer.cancel()
            for reaper in reapers:
                reaper.cancel()
            for slot in self.slots:
                await self.settle(slot)
            self.account(dead)
            self.report.dead_letters = sum(dead.values())
        await asyncio.wait_for(system.threads.all_ended(), 15.0)
        if leaks := system.leaks():
            self.report.wrong.append(f"left behind: {leaks}")
        self.report.seconds = time.monotonic() - started
        return self.report

    async def settle(self, slot: Slot) -> None:
        """The last incarnation answers an ask: it has handled all that was sent before."""
        assert slot.ref is not None
        if slot.ref.is_alive():
            slot.accounts[slot.ref].killable = False
            try:
                await slot.ref.ask(1)
            except ActorDied:
                slot.accounts[slot.ref].killable = True  # a crash was in its queue

    def account(self, dead: collections.Counter[Ref[Any]]) -> None:
        wrong = self.report.wrong
        for slot in self.slots:
            for ref, account in slot.accounts.items():
                sent = {thread: self.sent[ref, thread] for thread in range(self.threads)}
                self.report.told += sum(sent.values())
                for thread, numbers in account.got.items():
                    if numbers != list(range(len(numbers))):
                        wrong.append(f"{ref!r} got messages of thread {thread} with a gap or out of order")
                handled = sum(len(numbers) for numbers in account.got.values())
                total = sum(sent.values())
                if not account.killable and handled != total:
                    wrong.append(f"{ref!r} lives, was sent {total} and handled {handled}")
                if slot.kind is Target and handled + account.queued_at_death + dead[ref] != total:
                    wrong.append(
                        f"{ref!r}: {total} sent, {handled} handled, {account.queued_at_death} queued, {dead[ref]} dead"
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    report = asyncio.run(Soak(options.seconds, options.seed).run())
    print(f"seed {options.seed}: {report}")
    raise SystemExit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
