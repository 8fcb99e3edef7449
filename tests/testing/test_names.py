"""The public names of ramure.testing."""

from __future__ import annotations

import pytest

import ramure.testing


def test_every_public_name_is_there() -> None:
    assert all(getattr(ramure.testing, name) is not None for name in ramure.testing.__all__)
    assert sorted(ramure.testing._HOME) == sorted(ramure.testing.__all__) == sorted(dir(ramure.testing))


def test_what_is_no_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ScriptedMode'"):
        _ = ramure.testing.ScriptedMode
