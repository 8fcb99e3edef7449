"""``python -m tests.conformance KIND IN.jsonl OUT.jsonl``: runs the oracle's scenarios on ramure.

KIND is ``link`` or ``sup``, the name of the module here whose ``run(scenario)`` gives the result. The
output has the oracle's format (``tests/otp_oracle/README.md``), a line for each scenario, in order.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path

KINDS = ("link", "sup")


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or arguments[0] not in KINDS:
        print(__doc__, file=sys.stderr)
        return 2
    kind, source, target = arguments
    logging.disable(logging.CRITICAL)  # crashes are what the scenarios are made of
    run = importlib.import_module(f"tests.conformance.{kind}").run
    with Path(source).open() as scenarios, Path(target).open("w") as results:
        results.writelines(json.dumps(run(json.loads(line)), separators=(",", ":")) + "\n" for line in scenarios)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
