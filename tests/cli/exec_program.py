"""A program with a machine of this host, and no agent: what `ramure exec` runs commands on in the tests."""

from __future__ import annotations

import asyncio

from ramure import LocalImage, agent_process, current_runtime, machine


@agent_process
async def main() -> None:
    await machine(LocalImage())
    print("run", current_runtime().execution_id, flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
