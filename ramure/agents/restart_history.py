"""The lives of an agent's pi, one after another: what is told of each death, and of what comes after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from typing import Any

from ramure.actors import Ref
from ramure.actors.observe.reports import path_of
from ramure.agents import crash_texts as deaths
from ramure.agents.requests import AgentOptions
from ramure.agents.work import Work
from ramure.clock import Clock
from ramure.exits import format_exit, is_clean
from ramure.masking import get_logger
from ramure.supervisors import SupervisorEvent

__all__ = ["RestartHistory"]

logger: logging.Logger = get_logger("ramure.agents")


class RestartHistory:
    """Follows what the supervisor of the session decides. ``tell(type, data)`` puts an entry into the agent's log and the
    run's, and into the agent's stream; ``say`` is a message to the next pi."""

    def __init__(
        self,
        options: AgentOptions,
        agent: Ref[Any],
        clock: Clock,
        tell: Callable[[str, dict[str, Any]], None],
        say: Callable[[str], None],
        work: Work,
    ) -> None:
        self.restarts: int = 0
        self.was_ready: bool = False
        """True when one of them has been ready for work."""
        self.last_end: object = None
        """Why the last of them ended."""
        self._options = options
        self._agent = agent
        self._clock = clock
        self._tell = tell
        self._say = say
        self._work = work
        self._down_at: float | None = None

    def on_ready(self) -> None:
        """pi is ready for work."""
        self.was_ready = True
        if self._down_at is not None:
            seconds = round(self._clock.monotonic() - self._down_at, 3)
            self._down_at = None
            reason = deaths.brief(self.last_end)
            self._tell("agent_restarted", {"reason": reason, "restarts": self.restarts, "seconds": seconds})

    def on_session(self, event: SupervisorEvent, state: str, ours: Container[str]) -> str | None:
        """The session ended, was started again, or is not any more. ``state`` is the agent's, ``ours`` the run's tools. Says
        whether pi is ``"down"`` now, for a while, or ``"gone"`` for good."""
        reason, options = event.reason, self._options
        match event.kind:
            case "restarting":
                after = f"after {event.delay:.2g} s" if event.delay else "at once"
                self._died(event, state, f"restarted {after}, with its conversation")
                attempt = f"restart {self.restarts + 1}, at most {options.max_restarts} in {options.within:g} s"
                why = deaths.brief(reason)
                logger.warning(
                    "agent %r: its pi ended (%s); it is restarted %s (%s)", options.address, why, after, attempt
                )
                self._notify(reason, state, ours)
                return "down"
            case "child_ended" if not is_clean(reason):
                why = f"restart={options.restart!r}" if self.was_ready else "it had never connected"
                self._died(event, state, f"not restarted ({why}): the agent ends")
                return "gone"
            case "gave_up":
                used = f"{options.max_restarts} restarts within {options.within:g} s are used up"
                self._died(event, state, f"gave up ({used}): the agent ends")
                self._tell("agent_gave_up", {"reason": deaths.brief(reason), "restarts": self.restarts})
                return "gone"
            case "restarted":
                self.restarts += 1
        return None

    def _died(self, event: SupervisorEvent, state: str, did: str) -> None:
        reason = self.last_end = event.reason
        doing = deaths.doing(state, [call.name for call in self._work.tools])
        report = deaths.crash_report(
            self._options.address,
            path_of(event.ref if event.ref is not None else self._agent),
            reason,
            doing=doing,
            did=did,
            attempt=event.attempt if event.kind == "restarting" else 0,
            at=self._clock.wall(),
        )
        self._options.services.log("crash_report", report)
        self._tell("agent_down", {"reason": format_exit(reason), "doing": doing, "did": did})

    def _notify(self, reason: object, state: str, ours: Container[str]) -> None:
        if self._down_at is None:
            self._down_at = self._clock.monotonic()
        under_way = [call.name for call in self._work.tools]
        self._work.on_down()
        if state in (
            "busy",
            "waiting_for_model",
        ):  # an idle one has lost nothing, and a notice would only make it answer
            mine = [name for name in under_way if name in ours]
            own = [name for name in under_way if name not in ours]
            self._say(deaths.notice(reason, mine, own))
        elif ended := deaths.ended_with(reason):
            self.on_ended(ended)

    def on_ended(self, commands: Sequence[str]) -> None:
        """Commands were ended with the last pi, which the next one has not been told."""
        self._say(deaths.lost_commands(commands))
