"""The program that the faults happen to: an agent that does a task of so many steps. It tells what happens as lines of
``@`` and JSON. Its settings are in ``CHAOS``; a test says what happens next on its standard signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

from ramure import agent, agent_process, current_runtime, done, machine, receive, wait
from ramure.actors import Down
from ramure.errors import OperationalError
from ramure.exits import format_exit
from ramure.runtime.errors import AgentDied
from ramure.runtime.process.stream import Event
from ramure.supervisors import Backoff

SETTINGS: dict[str, Any] = json.loads(os.environ.get("CHAOS", "{}"))


def tell(what: str, **facts: Any) -> None:
    print("@" + json.dumps({"what": what, "at": time.time(), **facts}), flush=True)


def on_event(event: Event) -> None:
    if event.type in ("agent_down", "agent_restarted", "agent_gave_up"):
        tell(event.type, reason=event.data["reason"].splitlines()[0])
    elif event.type == "alarm":
        tell("alarm", reason=event.data["reason"])
    elif event.type == "problem":
        tell("problem", code=event.data["code"], text=event.data["message"])


class StepFailed(OperationalError):
    """A step that the row makes fail."""


@agent_process(base_url=SETTINGS.get("base_url"))
async def main() -> None:
    run = current_runtime()
    tell("run", id=run.execution_id, port=run.gateway.port)
    host = await machine()
    worker = await agent(
        "worker",
        machine=host,
        max_restarts=SETTINGS.get("max_restarts", 100),
        backoff=Backoff(first=0.0),
        stale_after=SETTINGS.get("stale_after", 15),
    )
    worker.monitor()
    worker.events.subscribe(on_event)
    tries: dict[int, int] = {}

    @worker.on("step", timeout=SETTINGS.get("timeout"))
    async def step(number: int) -> str:
        """Do one step of the task."""
        tries[number] = tries.get(number, 0) + 1
        tell("step", number=number, attempt=tries[number])
        if number == SETTINGS.get("bad_step") and tries[number] == 1:
            if SETTINGS["badness"] == "raises":
                raise StepFailed("the step failed")
            await asyncio.Event().wait()
        await asyncio.sleep(SETTINGS.get("pause", 0.2))
        return f"step {number} done"

    @worker.on("finish")
    async def finish() -> str:
        """Say that the task is done."""
        done("finished")
        return "noted"

    loop, begin = asyncio.get_running_loop(), asyncio.Event()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, stop.set)
    loop.add_signal_handler(signal.SIGUSR2, begin.set)
    stopping = asyncio.create_task(stop_when(stop, host))
    if SETTINGS.get("warm_up", False):
        await worker.ask("Hello.")
        tell("idle")
        await begin.wait()
    try:
        await worker.send("Do the steps, then call finish.")
        result, patience = await wait(), 0.0
    except AgentDied as died:
        result, patience = f"AgentDied: {format_exit(died.reason).splitlines()[0]}", 5.0
    downs = [down async for down in every_down(patience)]
    tell("end", result=result, downs=downs, restarts=worker.restarts)
    stopping.cancel()


async def stop_when(stop: asyncio.Event, host: Any) -> None:
    await stop.wait()
    await host.stop()


async def every_down(patience: float) -> Any:
    while True:
        try:
            down = await receive(Down, timeout=patience)
        except TimeoutError:
            return
        yield format_exit(down.reason).splitlines()[0]
        patience = 0.2


if __name__ == "__main__":
    asyncio.run(main())
