"""The programs that agents need: tmux, a pi, and a Node that fits it. Finding them, and installing them.

``find_toolchain()`` is what a run calls (quick: one small file and a few ``stat`` calls when nothing changed);
``set_up()`` is ``ramure setup``; ``model_configured()`` says whether the user's pi has a model.
"""

from ramure.agents.pi.toolchain.errors import SetupBusy, SetupFailed, ToolError, ToolMissing, ToolTooOld
from ramure.agents.pi.toolchain.find import Toolchain, find_tmux, find_toolchain
from ramure.agents.pi.toolchain.models import ModelConfig, agent_dir, model_config, model_configured
from ramure.agents.pi.toolchain.setup import Plan, plan_setup, set_up

__all__ = [
    "ModelConfig",
    "Plan",
    "SetupBusy",
    "SetupFailed",
    "ToolError",
    "ToolMissing",
    "ToolTooOld",
    "Toolchain",
    "agent_dir",
    "find_tmux",
    "find_toolchain",
    "model_config",
    "model_configured",
    "plan_setup",
    "set_up",
]
