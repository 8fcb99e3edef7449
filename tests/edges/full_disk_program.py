"""The program whose disk is full: an agent that is asked one thing after the other, and events all the time. It tells what
happens as lines of ``@`` and JSON. Its settings are in ``FULL_DISK``."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import time
from typing import Any

from ramure import Agent, RunFailed, agent, agent_process, current_runtime, emit, start_task
from ramure.exits import format_exit
from ramure.runtime.process.stream import Event
from tests.edges.full_disks import SIZE, asked, reply

SETTINGS: dict[str, Any] = json.loads(os.environ["FULL_DISK"])


def tell(what: str, **facts: Any) -> None:
    print("@" + json.dumps({"what": what, "at": time.time(), **facts}), flush=True)


class Heard(logging.Handler):
    """What the run warns of; an agent's events tell it only once there is the agent."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if ": no room for " in text:
            tell("alarm", text=text)
        elif ": there is room for " in text:
            tell("alarm_over", text=text)


def on_event(event: Event) -> None:
    if event.type in ("agent_down", "problem"):
        tell(event.type, data=event.data)


async def tick() -> None:
    """Something for the run's log all the time: whoever has no room notices at once."""
    number = 0
    while True:
        number += 1
        emit("tick", {"number": number, "text": "t" * 400})
        await asyncio.sleep(0.05)


async def work(worker: Agent) -> None:
    @worker.on("step")
    async def step(number: int, text: str) -> str:
        """Do one step."""
        tell("step", number=number, size=len(text))
        await asyncio.sleep(0.02)
        return f"step {number} done"

    for number in range(1, SETTINGS["asks"] + 1):
        answer = await worker.ask(asked(number))
        tell("answer", number=number, right=answer == reply(number))


@agent_process(disk_full_timeout=SETTINGS["limit"])
async def main() -> None:
    run = current_runtime()
    if SETTINGS["disk"] == "sessions":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "ramure-tests", str(run.paths.sessions)]
        await asyncio.to_thread(subprocess.run, mount, check=True)
    tell("run", id=run.execution_id)
    start_task(tick())
    worker = await agent("worker")
    worker.events.subscribe(on_event)
    await work(worker)


if __name__ == "__main__":
    logging.getLogger("ramure.runtime").addHandler(Heard())
    try:
        asyncio.run(main())
    except RunFailed as failed:
        tell("end", result=format_exit(failed.reason).splitlines()[0])
    else:
        tell("end", result="finished")
