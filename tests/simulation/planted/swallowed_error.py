"""A swallowed error: a file whose review failed counts as one without findings."""

from __future__ import annotations

from typing import Any

from ramure import ExecutionFailed, agent, agent_process, done, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process
async def review(file: str) -> list[str]:
    reviewer = await agent("reviewer")

    @reviewer.on("finish")
    async def finish(findings: list[str]) -> str:
        """Hand in the findings."""
        done(findings)
        return "Recorded."

    await reviewer.send(f"Task: {file}\nReview the file, then call finish.")
    return await wait(list[str])


@agent_process
async def planted(files: list[str]) -> dict[str, Any]:
    report: dict[str, list[str]] = {}
    for file in files:
        try:
            report[file] = await review(file)
        except ExecutionFailed:
            report[file] = []
    return {"report": report, "not reviewed": {}}


@agent_process
async def mended(files: list[str]) -> dict[str, Any]:
    report: dict[str, list[str]] = {}
    problems: dict[str, str] = {}
    for file in files:
        try:
            report[file] = await review(file)
        except ExecutionFailed as error:
            problems[file] = str(error)
    return {"report": report, "not reviewed": problems}


FOUND = "passed without a review"
"""What its story says."""

ARGS = (["a.py", "b.py", "c.py"],)
model = diligent("finish", lambda conversation: {"findings": [f"a bug in {task_of(conversation)}"]})


def at_end(run: Any) -> None:
    if run.succeeded:
        clean = [file for file, findings in run.result["report"].items() if not findings]
        assert not clean, f"passed without a review: {clean}"
