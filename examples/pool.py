"""A pool of workers as a process of its own: the program gives it a task by a call, an agent gives it another by a tool.

    python examples/pool.py

Every worker is a process with an agent in it. The pool's stream has the events of all of them, each with its task as
the source; the program ends with the result of the task that the agent thought of.
"""

# test: pi=pool; prints=One window, four panes; seconds=60

import asyncio

from ramure import agent, agent_process, bubble, done, emit, expose, spawn, wait


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
async def pool() -> None:
    @expose
    async def add_task(spec: str) -> str:
        bubble(spawn(run_task, spec), source=spec)
        return spec

    emit("ready", None)
    await wait()


@agent_process
async def main() -> None:
    handle = spawn(pool)
    async for event in handle.events:
        if event.type == "ready":
            break
    await handle.call("add_task", spec="Write a haiku about git rebase.")
    monitor = await agent("monitor", system_prompt="You run a pool of workers.")
    await handle.attach(monitor, prefix="pool_")
    await monitor.send("Add a task: a haiku about tmux.")
    async for event in handle.events:
        if event.type == "done" and event.source == "a haiku about tmux":
            print(event.data)
            break


if __name__ == "__main__":
    asyncio.run(main())
