"""docs/cli.md shows what the commands print."""

from __future__ import annotations

import pytest

from tests.cli.docs import PAGE, page, squeezed


@pytest.mark.timeout(180)
def test_the_page_shows_what_the_commands_print_now() -> None:
    assert squeezed(page()) == squeezed(PAGE.read_text(encoding="utf-8")), (
        "python -m tests.cli.docs --write makes docs/cli.md anew"
    )
