"""What users of ramure (and ramure's own suite) test with.

* :class:`ScriptedModel`: a model server on this host that pi talks to as to any provider, and that says what a
  script tells it to.
* :class:`InProcessHarness`: simulated agents, without pi and tmux, on the real actors and the real wire protocol.
* :func:`run_virtual`: run a coroutine in virtual time, where ``sleep(3600)`` costs nothing.
* the pytest fixtures ``no_blocking_calls`` and ``leak_check`` (:mod:`ramure.testing.plugin`).

Every name is imported when it is first used, so that loading the pytest plugin costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.testing.blocking import BlockingCall, detect_blocking_calls
    from ramure.testing.conversation import Conversation, OfferedTool, ToolResult
    from ramure.testing.harness import InProcessHarness
    from ramure.testing.leaks import Leak, LeakCheck, new_run
    from ramure.testing.scripted_model import ModelRequest, ScriptedModel
    from ramure.testing.scripts import Script, ScriptError
    from ramure.testing.steps import (
        Delay,
        DropConnection,
        Finish,
        Hang,
        HTTPError,
        Step,
        Text,
        Thinking,
        ToolCall,
        Usage,
    )
    from ramure.testing.virtual import DeadlockError, VirtualClock, VirtualLoop, run_virtual, virtual_time

_HOME = {
    "BlockingCall": "blocking",
    "Conversation": "conversation",
    "DeadlockError": "virtual",
    "Delay": "steps",
    "DropConnection": "steps",
    "Finish": "steps",
    "HTTPError": "steps",
    "Hang": "steps",
    "InProcessHarness": "harness",
    "Leak": "leaks",
    "LeakCheck": "leaks",
    "ModelRequest": "scripted_model",
    "OfferedTool": "conversation",
    "Script": "scripts",
    "ScriptError": "scripts",
    "ScriptedModel": "scripted_model",
    "Step": "steps",
    "Text": "steps",
    "Thinking": "steps",
    "ToolCall": "steps",
    "ToolResult": "conversation",
    "Usage": "steps",
    "VirtualClock": "virtual",
    "VirtualLoop": "virtual",
    "detect_blocking_calls": "blocking",
    "new_run": "leaks",
    "run_virtual": "virtual",
    "virtual_time": "virtual",
}

__all__ = [
    "BlockingCall",
    "Conversation",
    "DeadlockError",
    "Delay",
    "DropConnection",
    "Finish",
    "HTTPError",
    "Hang",
    "InProcessHarness",
    "Leak",
    "LeakCheck",
    "ModelRequest",
    "OfferedTool",
    "Script",
    "ScriptError",
    "ScriptedModel",
    "Step",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Usage",
    "VirtualClock",
    "VirtualLoop",
    "detect_blocking_calls",
    "new_run",
    "run_virtual",
    "virtual_time",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
