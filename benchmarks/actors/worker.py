"""``python -m benchmarks.actors.worker PEER``: one peer's figures, as JSON on the last line."""

from __future__ import annotations

import importlib
import json
import logging
import sys

logging.disable(logging.CRITICAL)
print(json.dumps(importlib.import_module(f"benchmarks.actors.peers.{sys.argv[1]}_peer").measure()))
