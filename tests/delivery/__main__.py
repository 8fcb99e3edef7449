"""``python -m tests.delivery [-n 2000] [--cuts 100] [--kills 5] [--seed S]``: exactly once, on real pi.

So many messages are sent, and so many tool calls made, while the connection is cut and pi is killed at random moments.
Afterwards the program's own record of what it sent and returned is held against the bytes that the model received.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

from tests.conftest import _installed
from tests.delivery.trial import Plan, on_stage


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.delivery", description=__doc__)
    parser.add_argument("-n", type=int, default=2000, help="messages, and tool calls (default 2000)")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--silence", type=float, default=60.0, help="seconds without progress that are a hang")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    plan = Plan(given.n, given.cuts, given.kills, seed, given.silence)
    figures = asyncio.run(on_stage(_installed("toolchain"), plan))
    print(f"seed {seed}: {figures}")
    wrong = figures.wrong()
    print(
        "\n".join(wrong)
        or "each message once, in order and unchanged; each call's result once, unchanged and with its call"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
