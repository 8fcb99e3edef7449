"""What the scripted model says in the documentation's programs: name -> script, as `ScriptedModel` takes it."""

from __future__ import annotations

from typing import Any

from ramure.cli.demo import scripted as haikus
from ramure.testing import Text, ToolCall

SCRIPTS: dict[str, Any] = {
    "haikus": haikus,
    "killed": [ToolCall("bash", {"command": "kill -9 $PPID"}), Text("I was killed, and went on.")],
}
