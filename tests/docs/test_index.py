"""README.md leads to every page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_readme_leads_to_every_page_and_every_link_to_a_file() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\(((?!https?:)[^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert pages <= linked
    assert all((ROOT / link).exists() for link in linked)
