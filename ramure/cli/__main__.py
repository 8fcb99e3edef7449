"""``python -m ramure.cli``: the ``ramure`` command where no script is installed."""

from ramure.cli.main import main

main(prog_name="ramure")
