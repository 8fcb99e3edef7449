"""``ramure why`` after each row of the fault table: its first line names the true cause, from the logs alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ramure.runtime.views.story_log import read_story

__all__ = ["wrong_story"]

FIRST_LINES: Final = {
    "SIGSTOP pi (it is set going)": "worker has not died",
    "socket dropped": "worker has not died; its last trouble: its connection was lost",
    "socket flooded with rubbish": "worker has not died",
    "handler raises": "worker has not died; its last trouble: the tool step failed: (?!HandlerTimeout)",
    "handler hangs past its timeout": "worker has not died; its last trouble: the tool step failed: HandlerTimeout",
    "log's disk full, then freed": "worker has not died; its last trouble: .*(full|No space)",
}
"""By the row's name, for the rows in which no pi dies; in the others it is the reason that is expected."""


def wrong_story(name: str, reason: str, logs: Path) -> list[str]:
    """What is wrong with the story that the logs of a trial tell."""
    story, near = read_story(logs, "worker")
    if near:
        return [f"why: the logs know no worker, but {near}"]
    expected = FIRST_LINES.get(name) or f"worker died.*{reason}"
    if "\n" in story.headline or not re.match(expected, story.headline):
        return [f"why says {story.headline!r}, not {expected!r}"]
    return []
