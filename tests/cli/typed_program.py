"""A program with an endpoint that has types: what `ramure call` gives values to in the tests."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal

from ramure import agent_process, current_runtime, expose, wait


@agent_process
async def main() -> None:
    @expose
    def decide(approve: bool, urgent: bool = False, n: int = 0, spec: str = "", by: dt.date | None = None) -> str:
        return repr((approve, urgent, n, spec, by and by.isoformat()))

    @expose
    def measure(
        at: dt.datetime | None = None,
        took: dt.timedelta | None = None,
        price: Decimal | None = None,
        share: float = 0.0,
    ) -> str:
        return repr((at and at.isoformat(), took, price, share))

    @expose
    def order(items: list[str] | None = None, prices: dict[str, float] | None = None) -> str:
        return repr((items, prices))

    print("run", current_runtime().execution_id, flush=True)
    await wait()


if __name__ == "__main__":
    asyncio.run(main())
