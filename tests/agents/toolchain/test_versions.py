from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain.versions import Version, node_needed, parse_version, tmux_order


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v24.19.0", (24, 19, 0)),
        ("tmux 3.3a", (3, 3, 0)),
        (">=22.19", (22, 19, 0)),
        ("1.6.0-beta.1", (1, 6, 0)),
        ("24", (24, 0, 0)),
        ("none", None),
    ],
)
def test_a_version_is_the_first_number_in_the_text(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("pi", "engines", "node"),
    [
        ((0, 74, 2), None, (20, 6, 0)),
        ((0, 75, 0), None, (22, 19, 0)),
        ((1, 5, 2), None, (22, 19, 0)),
        (None, None, (22, 19, 0)),
        ((2, 0, 0), ">=24.2.0", (24, 2, 0)),
        ((0, 74, 0), "^20 || ^22", (20, 6, 0)),
    ],
)
def test_the_node_that_a_pi_needs(pi: tuple[int, int, int] | None, engines: str | None, node: tuple[int, ...]) -> None:
    assert node_needed(Version(*pi) if pi else None, engines) == node


def test_tmux_versions_are_ordered_by_their_letter_too() -> None:
    versions = ["tmux 3.1c", "tmux 3.2", "3.2a", "tmux 3.3", "tmux 3.3a", "tmux next-3.6"]
    orders = [tmux_order(v) for v in versions]
    assert None not in orders
    assert orders == sorted(orders, key=lambda order: order or Version(0))
    assert tmux_order("tmux master") is None
