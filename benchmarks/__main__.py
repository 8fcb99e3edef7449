"""``python -m benchmarks [SUITE] [options]``; a suite is a package here with ``main(arguments) -> exit code``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def suites() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.ispkg)


def main(arguments: list[str]) -> int:
    names = suites()
    if arguments and not arguments[0].startswith("-"):
        chosen, rest = [arguments[0]], arguments[1:]
        if chosen[0] not in names:
            print(f"there is no suite {chosen[0]!r}; choose from: {', '.join(names)}", file=sys.stderr)
            return 2
    else:
        chosen, rest = names, arguments
    return max(int(importlib.import_module(f"benchmarks.{name}").main(rest)) for name in chosen)


raise SystemExit(main(sys.argv[1:]))
