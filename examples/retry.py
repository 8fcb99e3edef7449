"""A retry in the loop: Python checks the work, and what does not pass is done again with the reason.

    python examples/retry.py

The loop over the events of a process that failed goes on with those of the one that is spawned in its place. On the model of
the tests it prints:

    failed: a haiku has 3 lines, not 2
    Spring rain on the roof / a cat listens at the door / nobody comes home
"""
# test: pi=retry; prints=a cat listens at the door; seconds=120

import asyncio

from ramure import agent, agent_process, spawn

TRIES = 3


@agent_process
async def write_haiku(topic: str, before: str) -> str:
    poet = await agent("poet", system_prompt="You write haikus. Answer with the haiku alone.")
    haiku = await poet.ask(f"Write a haiku about {topic}.{before}")
    lines = haiku.strip().splitlines()
    if len(lines) != 3:
        raise ValueError(f"a haiku has 3 lines, not {len(lines)}")
    return " / ".join(lines)


@agent_process
async def main(topic: str) -> str:
    handle, tries = spawn(write_haiku, topic, ""), 1
    async for event in handle.events:
        if event.type == "done":
            return str(event.data)
        if event.type == "failed":
            print(f"failed: {event.data.removeprefix('ValueError: ')}")
            if tries < TRIES:
                tries += 1
                handle = spawn(write_haiku, topic, f" The last try was refused: {event.data}.")
    return await handle  # which raises what the last try failed with


if __name__ == "__main__":
    print(asyncio.run(main("spring")))
