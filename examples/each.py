"""A data pipeline over files: an agent for each invoice, at most two at once; Python checks what they hand in.

    python examples/each.py

An agent that misreads a total gets an error, and looks again. A file that cannot be read is named at the end, and costs the
others nothing. On the model of the tests it prints:

    acme.txt: Acme, 12.50
    globex.txt: Globex, 7.25
    initech.txt: Initech, 41.75
    61.50 in 3 invoices; not read: empty.txt (ValueError: there is nothing in it)
"""
# test: pi=invoices; prints=61.50 in 3 invoices; seconds=120

import asyncio
import tempfile
from pathlib import Path

from ramure import agent, agent_process, done, each, wait

INVOICES = {
    "acme.txt": "Acme Ltd. Anvils, 2 pieces. Total: 12.50",
    "empty.txt": "",
    "globex.txt": "Globex Inc. One globe. Total: 7.25",
    "initech.txt": "Initech. Staplers, red, 5 pieces. Total: 41.75",
}


@agent_process
async def read_invoice(file: Path) -> tuple[str, float]:
    text = await asyncio.to_thread(file.read_text)
    if not text:
        raise ValueError("there is nothing in it")
    reader = await agent("reader", system_prompt="You read invoices.")

    @reader.on("record")
    async def on_record(supplier: str, total: float) -> str:
        """Hand in the supplier's name and the total of the invoice."""
        if f"{total:.2f}" not in text:
            return f"The invoice does not say {total:.2f}. Look again."
        done((supplier, total))
        return "Recorded."

    await reader.send(f"Hand in this invoice with record(supplier, total):\n\n{text}")
    return await wait(tuple[str, float])


@agent_process
async def pipeline(files: list[Path]) -> str:
    records, unread = {}, []
    async for result in each(read_invoice, files, limit=2, max_restarts=1, key=lambda file: file.name):
        if result.error is not None:
            unread.append(f"{result.key} ({type(result.error).__name__}: {result.error})")
        else:
            records[result.key] = result.value
    for name, (supplier, total) in sorted(records.items()):
        print(f"{name}: {supplier}, {total:.2f}")
    amount = sum(total for _, total in records.values())
    return f"{amount:.2f} in {len(records)} invoices; not read: {', '.join(unread)}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, text in INVOICES.items():
            (Path(folder) / name).write_text(text)
        print(asyncio.run(pipeline(sorted(Path(folder).glob("*.txt")))))
