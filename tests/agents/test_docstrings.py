"""What a docstring says of parameters, in the styles that people use."""

from __future__ import annotations

import inspect

import pytest

from ramure.agents.tools.docstrings import read_docstring

GOOGLE = """Move a file.

    Only within the project.

    Args:
        source (str): where it is
        target: where it goes,
            which must not exist
        *more: others

    Returns:
        The new path: as text.
    """
NUMPY = """Move a file.

    Only within the project.

    Parameters
    ----------
    source : str
        where it is
    target, other : str, optional
        where it goes,
        which must not exist

    Returns
    -------
    str
        The new path.
    """
SPHINX = """Move a file.

    Only within the project.

    :param str source: where it is
    :param target: where it goes,
        which must not exist
    :type target: str
    :returns: The new path.
    """
PLAIN = """Move a file: source first.

    Args: none that matter.

    Note:
        target: is kept.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_each_style_is_read_and_left_out_of_the_description(text: str) -> None:
    description, words = read_docstring(inspect.cleandoc(text), ("source", "target"))
    assert words == {"source": "where it is", "target": "where it goes, which must not exist"}
    assert description.startswith("Move a file.\n\nOnly within the project.\n\n")
    assert "The new path" in description
    assert "where it" not in description


def test_a_text_without_such_a_section_is_the_description() -> None:
    text = inspect.cleandoc(PLAIN)
    assert read_docstring(text, ("source", "target")) == (text, {})


def test_a_section_about_other_names_stays() -> None:
    text = inspect.cleandoc(GOOGLE)
    assert read_docstring(text, ("elsewhere",)) == (text, {})
