"""The supervisor of a fixed set of children, known by their ids."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from ramure.actors import Ref
from ramure.supervisors import messages as m
from ramure.supervisors.backoff import Backoff
from ramure.supervisors.shell import Listener, SupervisorShell
from ramure.supervisors.spec import AutoShutdown, ChildSpec, Flags

__all__ = ["Supervisor"]


class Supervisor(SupervisorShell):
    """Keeps its children running, as OTP's supervisor::

        tree = await system.start(Supervisor, [ChildSpec("hits", Counter, (3,))], strategy="rest_for_one")
        for child in await tree.proxy().which_children():
            ...

    Children are started in order; when the supervisor ends, for whatever reason, they are stopped in
    reverse order, each within its ``shutdown``. ``start`` raises StartFailed when a child does not start
    (reason ``Shutdown(FailedToStartChild(id, reason))``), after stopping those that did. A supervisor is a
    child like any other: ``ChildSpec("pool", Supervisor, ([...],), type="supervisor")``. Subclasses can
    override ``init`` and pass their children to ``super().init(...)``.

    A call to ``proxy()`` waits 5 s, as every ask; give ``proxy(timeout=None)`` where starts take longer.
    ``on_event`` is called with each :class:`SupervisorEvent`, from the first start on.
    """

    async def init(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: str = "one_for_one",
        intensity: int = 1,
        period: float = 5,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        on_event: Listener | None = None,
    ) -> None:
        await self._boot(lambda: Flags(strategy, intensity, period, auto_shutdown, backoff=backoff), children, on_event)

    async def start_child(self, spec: ChildSpec) -> Ref[Any] | None:
        """Start one more child, last in order; its ref, or None when it ignored its start.

        Raises AlreadyStarted, AlreadyPresent, ChildStartFailed (it is not kept then), InvalidSpec,
        SupervisorStopping. To get what a start function returned besides: ``ask(StartChild(spec))``.
        """
        return await self._answer(m.StartChild(spec), ref_only=True)  # type: ignore[no-any-return]

    async def terminate_child(self, child: Hashable) -> None:
        """Stop a child; returns when it has ended. Its place stays, for restart_child, unless it is temporary.

        Raises ChildNotFound, SupervisorStopping.
        """
        return await self._answer(m.TerminateChild(self._target(child)))  # type: ignore[no-any-return]

    async def restart_child(self, child: Hashable) -> Ref[Any] | None:
        """Start a child that does not run. Raises ChildNotFound, ChildRunning, ChildRestarting, ChildStopping,
        ChildStartFailed (its place stays), SupervisorStopping."""
        return await self._answer(m.RestartChild(child), ref_only=True)  # type: ignore[no-any-return]

    async def delete_child(self, child: Hashable) -> None:
        """Forget a child that does not run. Raises as restart_child."""
        return await self._answer(m.DeleteChild(child))  # type: ignore[no-any-return]
