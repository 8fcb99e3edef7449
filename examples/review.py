"""Code review: two connected agents in git worktrees of one repository, until one approves and the tests pass.

    python examples/review.py

The author commits on a branch of its own and writes to the reviewer, who reads that branch in its own worktree, and writes
back or approves. An approval counts when the tests pass; then the branch is merged. On the model of the tests it prints:

    message to reviewer: Please review ramure/...
    message to author: median([]) fails with IndexError. Raise ValueError, which says why.
    message to reviewer: Please look again: ramure/...
    approved and merged: Refuse an empty list, Add median
"""
# test: pi=review; prints=approved and merged: Refuse an empty list, Add median; seconds=120

import asyncio
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from ramure import Agent, LocalImage, agent, agent_process, connect, done, start_task, wait

TESTS = """\
import unittest

from numbers_of_ours import median


class Median(unittest.TestCase):
    def test_it_is_the_one_in_the_middle(self):
        self.assertEqual(median([3, 1, 2]), 2)

    def test_of_none_there_is_none(self):
        self.assertRaises(ValueError, median, [])
"""


@agent_process
async def review(task: str) -> str:
    author, reviewer = await asyncio.gather(
        agent("author", system_prompt="You write Python. Commit, and ask reviewer to look at your branch."),
        agent("reviewer", system_prompt="You review. Write to author what has to change, or approve."),
    )
    connect(author, reviewer)

    @reviewer.on("approve")
    async def on_approve(branch: str) -> str:
        """Approve the author's branch. The tests are run; returns why it does not count where they fail."""
        tests = f"{shlex.quote(sys.executable)} -m unittest --quiet"
        ran = await author.exec(
            f'test "$(git branch --show-current)" = {shlex.quote(branch)} && git diff --quiet HEAD && {tests}'
        )
        if not ran.ok:
            return f"Not approved, the branch as committed does not pass: {ran.stderr[-500:] or ran.stdout[-500:]}"
        done(branch)
        return "Approved."

    for each in (author, reviewer):
        start_task(show_messages(each))
    await reviewer.send("Wait until author asks you for a review.")
    await author.send(task)
    return await wait(str)


async def show_messages(of: Agent) -> None:
    async for event in of.events:
        if event.type == "tool_call" and event.data["name"] == "message":
            print("message to {to}: {text}".format(**event.data["arguments"]))


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(repository: Path) -> None:
    git(repository, "init", "--quiet")
    git(repository, "config", "user.name", "Example")
    git(repository, "config", "user.email", "example@localhost")
    (repository / "test_numbers.py").write_text(TESTS)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=Add tests")
    process = agent_process(image=LocalImage(workdir=repository, worktree=True))(review.function)
    branch = asyncio.run(process("Write median(numbers) in numbers_of_ours.py, for the tests in test_numbers.py."))
    git(repository, "merge", "--quiet", "--ff-only", branch)
    print("approved and merged:", ", ".join(git(repository, "log", "--format=%s", "-2").splitlines()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
