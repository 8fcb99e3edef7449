"""``python -m tests.mutants [-n N] [LIST …]``: see ``run.py``."""

import sys

from tests.mutants.run import main

sys.exit(main(sys.argv[1:]))
