"""One agent, one tool: an agent writes haikus and hands each in; the program decides when there are enough.

Run it with `python examples/haiku.py`, on your own pi and its model; `ramure demo` runs it on a scripted one if you
have none.
"""
# test: pi=haikus; prints=Rebase in the night

import asyncio

from ramure import agent, agent_process, done, wait


@agent_process
async def haikus(topic: str, count: int = 10) -> list[str]:
    poet = await agent("poet", system_prompt="You are a poet of few words.")
    written: list[str] = []

    @poet.on("submit_haiku")
    async def on_haiku(text: str) -> str:
        """Hand in one haiku: three lines, separated by newlines."""
        written.append(text)
        if len(written) == count:
            done(written)
        return f"Taken. {count - len(written)} to go."

    await poet.send(f"Write {count} haikus about {topic}. Hand in each with a call of submit_haiku.")
    return await wait(list[str])


if __name__ == "__main__":
    for haiku in asyncio.run(haikus("git")):
        print(haiku, end="\n\n")
