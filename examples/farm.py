"""Tasks under a supervisor: what fails is done again, and the results come by task.

python examples/farm.py
"""
# test: pi=farm; prints='rebase': 'Old commits find a new branch.'; seconds=60

import asyncio

from ramure import Backoff, agent, agent_process, child, done, supervise, wait


@agent_process
async def run_task(spec: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def on_finish(summary: str) -> str:
        """Call with your result when the task is done."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task:\n\n{spec}\n\nWhen done, call finish(summary).")
    return await wait(str)


@agent_process
async def farm(specs: list[str]) -> dict[str, str]:
    workers = await supervise(
        *(child(run_task, spec, id=spec, restart="transient") for spec in specs),
        strategy="one_for_one",
        max_restarts=3,
        within=60,
        backoff=Backoff(first=1, factor=2, limit=60),
    )
    async for event in workers.events:  # child_started, restarted, done, failed, gave_up, and what children emit
        print(event.type, event.source)
    return await workers  # results by child id


if __name__ == "__main__":
    print(asyncio.run(farm(["rebase", "tmux"])))
