"""docs/cli.md shows what the commands print."""

from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain import Toolchain
from tests.cli.docs import PAGE, page, squeezed


@pytest.mark.real_pi
@pytest.mark.timeout(300)
def test_the_page_shows_what_the_commands_print_now(toolchain: Toolchain) -> None:
    assert squeezed(page(toolchain)) == squeezed(PAGE.read_text(encoding="utf-8")), (
        "python -m tests.cli.docs --write makes docs/cli.md anew"
    )
