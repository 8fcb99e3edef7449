"""What the scripted model says in the documentation's programs: name -> script, as `ScriptedModel` takes it."""

from __future__ import annotations

from typing import Any

from ramure.cli.demo import scripted as haikus

SCRIPTS: dict[str, Any] = {"haikus": haikus}
