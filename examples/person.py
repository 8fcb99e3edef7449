"""A pipeline with a person in the middle: an agent drafts, you say what to change, another agent translates.

    python examples/person.py                       # asks you
    python examples/person.py 'shorter, please' ''  # answers for you

While you think, nothing times out, and the process is not stalled. With the answers of the second line, on the model of the
tests, it prints:

    The quick brown release 1.0 jumps over every lazy bug.
    Enter to take it, or what to change: shorter, please
    Release 1.0 is here.
    Enter to take it, or what to change:
    ['Release 1.0 is here.', 'Version 1.0 ist da.']
"""
# test: pi=person; prints=Version 1.0 ist da.; args='shorter, please' ''; seconds=120

import asyncio
import sys

from ramure import agent, agent_process

ANSWERS = sys.argv[1:]


async def ask_person(draft: str) -> str:
    question = f"{draft}\nEnter to take it, or what to change: "
    if not ANSWERS:
        return await asyncio.to_thread(input, question)  # the run goes on meanwhile
    print(question + ANSWERS[0])
    return ANSWERS.pop(0)


@agent_process
async def announce(what: str) -> list[str]:
    writer, translator = await asyncio.gather(agent("writer"), agent("translator"))
    draft = await writer.ask(f"Write one line that announces {what}. Answer with that line alone.")
    while change := await ask_person(draft):
        draft = await writer.ask(f"Change it: {change}")
    return [draft, await translator.ask(f"Translate into German. Answer with the translation alone:\n\n{draft}")]


if __name__ == "__main__":
    print(asyncio.run(announce("release 1.0")))
