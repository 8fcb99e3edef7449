"""A child forgotten: each chapter is proof-read by a child that nobody waits for, so the last ones are cut short."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ramure import agent, agent_process, done, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Book:
    chapters: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)


@agent_process
async def write(title: str) -> str:
    author = await agent("author")

    @author.on("finish")
    async def finish(text: str) -> str:
        """Hand in the chapter."""
        done(text)
        return "Recorded."

    await author.send(f"Task: {title}\nWrite the chapter, then call finish with its text.")
    return await wait(str)


@agent_process
async def proofread(book: Book, title: str) -> None:
    reader = await agent("reader")

    @reader.on("finish")
    async def finish(text: str) -> str:
        """Hand in what you found."""
        book.proofs.append(title)
        done()
        return "Recorded."

    await reader.send(f"Task: {title}\nProof-read the chapter, then call finish with what you found.")
    await wait()


@agent_process
async def planted(book: Book, titles: list[str]) -> int:
    for title in titles:
        book.chapters.append(await write(title))
        spawn(proofread, book, title)
    return len(book.chapters)


@agent_process
async def mended(book: Book, titles: list[str]) -> int:
    proofs: list[Any] = []
    for title in titles:
        book.chapters.append(await write(title))
        proofs.append(spawn(proofread, book, title))
    for proof in proofs:
        await proof
    return len(book.chapters)


FOUND = "forgotten child"
"""What its story says."""

ARGS = (Book(), ["one", "two", "three"])
model = diligent("finish", lambda conversation: {"text": task_of(conversation)})


def at_end(run: Any) -> None:
    book, titles = run.args
    if run.succeeded:
        assert sorted(book.proofs) == sorted(titles), f"proof-read: {book.proofs}"
