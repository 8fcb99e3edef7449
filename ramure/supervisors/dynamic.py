"""The supervisor of any number of children, known by their refs: OTP's simple_one_for_one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ramure.actors import Ref
from ramure.supervisors import messages as m
from ramure.supervisors.backoff import Backoff
from ramure.supervisors.errors import InvalidSpec
from ramure.supervisors.shell import Listener, SupervisorShell
from ramure.supervisors.spec import AutoShutdown, ChildSpec, Flags
from ramure.supervisors.strategies import SIMPLE_ONE_FOR_ONE

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(SupervisorShell):
    """Starts children on demand, each independent of the others::

        pool = await system.start(DynamicSupervisor, ChildSpec("worker", Worker, restart="transient"))
        ref = await pool.proxy().start_child("https://example.org")       # arguments, after the template's
        pool = await system.start(DynamicSupervisor, max_children=10)
        ref = await pool.proxy().start_child(ChildSpec("w", Worker, ("https://example.org",)))

    With a template (as OTP's simple_one_for_one) all children are of one kind; without one (as Elixir's
    DynamicSupervisor) each start gives a whole specification, whose id is only for people. When the
    supervisor ends, its children are stopped all at once. ``max_children`` limits them.
    """

    async def init(
        self,
        template: ChildSpec | None = None,
        *,
        intensity: int = 1,
        period: float = 5,
        auto_shutdown: AutoShutdown = "never",
        max_children: int | None = None,
        backoff: Backoff | None = None,
        on_event: Listener | None = None,
    ) -> None:
        await self._boot(
            lambda: Flags(SIMPLE_ONE_FOR_ONE, intensity, period, auto_shutdown, max_children, backoff),
            () if template is None else (template,),
            on_event,
        )

    async def start_child(self, *args: Any, wait: bool = False, **kwargs: Any) -> Ref[Any] | None:
        """Start a child: from the template and these further arguments, or, without a template, from the one
        argument, a :class:`ChildSpec`. Its ref, or None when it ignored its start.

        ``wait``: where there are ``max_children`` already, wait for room (as long as the ask waits).
        Raises TooManyChildren, ChildStartFailed, InvalidSpec, SupervisorStopping.
        """
        template = self._state.template
        if template is not None:
            spec = template.with_arguments(args, kwargs)
        elif len(args) == 1 and isinstance(args[0], ChildSpec) and not kwargs:
            spec = args[0]
        else:
            error = InvalidSpec("start_child", "args", args, "without a template, give one ChildSpec")
            return self._refuse(error)  # type: ignore[no-any-return]
        return await self._answer(m.StartChild(spec, wait), ref_only=True)  # type: ignore[no-any-return]

    async def terminate_child(self, child: Ref[Any]) -> None:
        """Stop a child; returns when it has ended (at once when it had). Raises ChildNotFound for a live actor
        that is no child, NotForDynamic for an id, SupervisorStopping."""
        return await self._answer(m.TerminateChild(self._target(child)))  # type: ignore[no-any-return]

    async def restart_child(self, child: Hashable) -> None:
        """Raises NotForDynamic, as OTP's supervisor answers ``simple_one_for_one``."""
        return await self._answer(m.RestartChild(child))  # type: ignore[no-any-return]

    async def delete_child(self, child: Hashable) -> None:
        """Raises NotForDynamic, as OTP's supervisor answers ``simple_one_for_one``."""
        return await self._answer(m.DeleteChild(child))  # type: ignore[no-any-return]
