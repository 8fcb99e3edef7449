"""What users of ramure (and ramure's own suite) test with.

* :class:`ScriptedModel`: a model server on this host that pi talks to as to any provider, and that says what a
  script tells it to.
* :class:`InProcessHarness`: simulated agents, without pi and tmux, on the real actors and the real wire protocol.
* :func:`simulate`: whole programs with agents, from many seeds, with faults; what breaks is shrunk and replayed.
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
    from ramure.testing.simulation.api import Simulation, SimulationFailed, simulate
    from ramure.testing.simulation.faults import Fault, Faults
    from ramure.testing.simulation.invariants import Invariant, always, at_end, eventually
    from ramure.testing.simulation.pool_machine import PoolMachine
    from ramure.testing.simulation.strategies import (
        AgentScript,
        Leaf,
        ProcessProgram,
        Tree,
        agent_scripts,
        fault_schedules,
        process_programs,
        supervision_trees,
    )
    from ramure.testing.simulation.world import Happening, SimulatedCall, SimulatedRun
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
    "AgentScript": "simulation.strategies",
    "BlockingCall": "blocking",
    "Conversation": "conversation",
    "DeadlockError": "virtual",
    "Delay": "steps",
    "DropConnection": "steps",
    "Fault": "simulation.faults",
    "Faults": "simulation.faults",
    "Finish": "steps",
    "HTTPError": "steps",
    "Hang": "steps",
    "Happening": "simulation.world",
    "InProcessHarness": "harness",
    "Invariant": "simulation.invariants",
    "Leak": "leaks",
    "LeakCheck": "leaks",
    "Leaf": "simulation.strategies",
    "ModelRequest": "scripted_model",
    "OfferedTool": "conversation",
    "PoolMachine": "simulation.pool_machine",
    "ProcessProgram": "simulation.strategies",
    "Script": "scripts",
    "ScriptError": "scripts",
    "ScriptedModel": "scripted_model",
    "SimulatedCall": "simulation.world",
    "SimulatedRun": "simulation.world",
    "Simulation": "simulation.api",
    "SimulationFailed": "simulation.api",
    "Step": "steps",
    "Text": "steps",
    "Thinking": "steps",
    "ToolCall": "steps",
    "ToolResult": "conversation",
    "Tree": "simulation.strategies",
    "Usage": "steps",
    "VirtualClock": "virtual",
    "VirtualLoop": "virtual",
    "agent_scripts": "simulation.strategies",
    "always": "simulation.invariants",
    "at_end": "simulation.invariants",
    "detect_blocking_calls": "blocking",
    "eventually": "simulation.invariants",
    "fault_schedules": "simulation.strategies",
    "new_run": "leaks",
    "process_programs": "simulation.strategies",
    "run_virtual": "virtual",
    "simulate": "simulation.api",
    "supervision_trees": "simulation.strategies",
    "virtual_time": "virtual",
}

__all__ = [
    "AgentScript",
    "BlockingCall",
    "Conversation",
    "DeadlockError",
    "Delay",
    "DropConnection",
    "Fault",
    "Faults",
    "Finish",
    "HTTPError",
    "Hang",
    "Happening",
    "InProcessHarness",
    "Invariant",
    "Leaf",
    "Leak",
    "LeakCheck",
    "ModelRequest",
    "OfferedTool",
    "PoolMachine",
    "ProcessProgram",
    "Script",
    "ScriptError",
    "ScriptedModel",
    "SimulatedCall",
    "SimulatedRun",
    "Simulation",
    "SimulationFailed",
    "Step",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Tree",
    "Usage",
    "VirtualClock",
    "VirtualLoop",
    "agent_scripts",
    "always",
    "at_end",
    "detect_blocking_calls",
    "eventually",
    "fault_schedules",
    "new_run",
    "process_programs",
    "run_virtual",
    "simulate",
    "supervision_trees",
    "virtual_time",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
