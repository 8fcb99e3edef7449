"""What a supervisor is told: child specifications and its own flags, validated field by field.

Pure: no clock, no asyncio, no I/O. ``start`` is opaque here; the shells know how to start one.
Fields, defaults and the order of the checks are those of OTP's supervisor ("Child specification").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ramure.exits import Crashed, is_clean
from ramure.supervisors.backoff import Backoff
from ramure.supervisors.errors import InvalidSpec
from ramure.supervisors.strategies import STRATEGIES

__all__ = ["AutoShutdown", "ChildSpec", "ChildType", "Flags", "Restart", "RestartIf", "Shutdown", "check_children"]

Restart = Literal["permanent", "transient", "temporary"]
ChildType = Literal["worker", "supervisor"]
Shutdown = float | Literal["brutal_kill", "infinity"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
RestartIf = type[BaseException] | tuple[type[BaseException], ...] | Callable[[object], bool]

DEFAULT_SHUTDOWN: Final = 5.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is started, restarted and stopped.

    ``id``: any hashable value, unique in its supervisor (no meaning under a dynamic one).
    ``start``: what is started (an actor class, an async function …), with ``args`` and ``kwargs``.
    ``restart``: *permanent* is always restarted, *transient* only after an abnormal end, *temporary* never.
    ``shutdown``: seconds the child has to end when told to, before it is killed; ``"infinity"``;
    ``"brutal_kill"`` kills at once. Default: 5.0 for workers, ``"infinity"`` for supervisors.
    ``significant``: its end can end the supervisor (see ``Flags.auto_shutdown``).
    ``restart_if``: an exception type, several, or a predicate on the exit reason: restart only then (and only where
    ``restart`` would). With types, only crashes by such an exception are restarted.
    ``backoff``: delays between restarts, instead of the supervisor's.
    ``intensity``: a limit of its own: after more restarts than that within ``period`` seconds, this child is not
    restarted any more. Its restarts are not counted in the supervisor's intensity, and never end the supervisor.

    Raises :class:`InvalidSpec`, which holds the field and its value.
    """

    id: Hashable
    start: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: ChildType = "worker"
    significant: bool = False
    restart_if: RestartIf | None = None
    backoff: Backoff | None = None
    intensity: int | None = None
    period: float = 5

    def __post_init__(self) -> None:
        try:
            hash(self.id)
        except TypeError:
            raise self._invalid("id", "give a hashable value") from None
        if not callable(self.start):
            raise self._invalid("start", "give an actor class, an async function or another start")
        if not isinstance(self.args, tuple):
            raise self._invalid("args", "give a tuple of positional arguments")
        if not isinstance(self.kwargs, Mapping):
            raise self._invalid("kwargs", "give a mapping of keyword arguments")
        if self.restart not in ("permanent", "transient", "temporary"):
            raise self._invalid("restart", "choose permanent, transient or temporary")
        if not isinstance(self.significant, bool):
            raise self._invalid("significant", "choose True or False")
        if self.type not in ("worker", "supervisor"):
            raise self._invalid("type", "choose worker or supervisor")
        if self.shutdown is None:
            object.__setattr__(self, "shutdown", DEFAULT_SHUTDOWN if self.type == "worker" else "infinity")
        elif self.shutdown not in ("brutal_kill", "infinity") and not _is_number(self.shutdown, 0):
            raise self._invalid("shutdown", 'give seconds (0 or more), "infinity" or "brutal_kill"')
        if not _is_condition(self.restart_if):
            raise self._invalid(
                "restart_if", "give an exception type, a tuple of them, or a predicate on the exit reason"
            )
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise self._invalid("backoff", "give a Backoff")
        self._check_own_limit()

    def _check_own_limit(self) -> None:
        if self.intensity is not None and not _is_int(self.intensity, 0):
            raise self._invalid("intensity", "give a whole number of at least 0, or None")
        if not _is_number(self.period, 0) or self.period == 0:
            raise self._invalid("period", "give a number of seconds greater than 0")

    def restarts_after(self, reason: object) -> bool:
        """True when a child that ended with ``reason`` is to be started again."""
        if self.restart == "temporary" or (self.restart == "transient" and is_clean(reason)):
            return False
        match self.restart_if:
            case None:
                return True
            case type() | tuple():
                return isinstance(reason, Crashed) and isinstance(reason.exception, self.restart_if)
            case _:
                return bool(self.restart_if(reason))

    def with_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ChildSpec:
        """This specification with further arguments (as OTP's simple_one_for_one start_child)."""
        if not args and not kwargs:
            return self
        return self._with((*self.args, *args), {**self.kwargs, **kwargs})

    def without_arguments(self) -> ChildSpec:
        """This specification, its arguments forgotten: a temporary child is never started from it again, and
        must not keep them alive (as OTP's supervisor, save_child)."""
        if not self.args and not self.kwargs:
            return self
        return self._with((), {})

    def _with(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ChildSpec:
        other = object.__new__(ChildSpec)  # not replace: the fields have been validated
        for name in ChildSpec.__slots__:
            object.__setattr__(other, name, getattr(self, name))
        object.__setattr__(other, "args", args)
        object.__setattr__(other, "kwargs", kwargs)
        return other

    def _invalid(self, name: str, expected: str) -> InvalidSpec:
        return InvalidSpec(f"ChildSpec {self.id!r}", name, getattr(self, name), expected)


@dataclass(frozen=True, slots=True)
class Flags:
    """A supervisor's own settings.

    ``strategy``: a row of :data:`~ramure.supervisors.strategies.STRATEGIES`.
    More than ``intensity`` restarts within ``period`` seconds end the supervisor with ``shutdown``. As in OTP,
    times are counted in whole seconds, and a restart exactly ``period`` seconds ago still counts.
    ``auto_shutdown``: the supervisor ends when any, or the last, of its significant children ends by itself.
    ``max_children``: a dynamic supervisor's limit. ``backoff``: the children's, where they have none.
    """

    strategy: str = "one_for_one"
    intensity: int = 1
    period: float = 5
    auto_shutdown: AutoShutdown = "never"
    max_children: int | None = None
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise self._invalid("strategy", f"choose one of {', '.join(STRATEGIES)}")
        if not _is_int(self.intensity, 0):
            raise self._invalid("intensity", "give a whole number of at least 0")
        if not _is_number(self.period, 0) or self.period == 0:
            raise self._invalid("period", "give a number of seconds greater than 0")
        if self.auto_shutdown not in ("never", "any_significant", "all_significant"):
            raise self._invalid("auto_shutdown", "choose never, any_significant or all_significant")
        if self.max_children is not None and not _is_int(self.max_children, 0):
            raise self._invalid("max_children", "give a whole number of at least 0, or None")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise self._invalid("backoff", "give a Backoff")

    def _invalid(self, name: str, expected: str) -> InvalidSpec:
        return InvalidSpec("supervisor", name, getattr(self, name), expected)


def check_child(spec: ChildSpec, flags: Flags) -> InvalidSpec | None:
    """What is wrong with ``spec`` under a supervisor with ``flags``; None when nothing is."""
    what = f"ChildSpec {spec.id!r}"
    if spec.significant and flags.auto_shutdown == "never":
        return InvalidSpec(what, "significant", True, "the supervisor's auto_shutdown is never; choose another")
    if spec.significant and spec.restart == "permanent":
        return InvalidSpec(what, "significant", True, "a permanent child never ends; make it transient or temporary")
    return None


def check_children(specs: Iterable[ChildSpec], flags: Flags) -> InvalidSpec | None:
    """What is wrong with the first bad one of ``specs``, or None. Ids must be unique."""
    seen: set[Hashable] = set()
    for spec in specs:
        wrong = check_child(spec, flags)
        if wrong is not None:
            return wrong
        if spec.id in seen:
            return InvalidSpec("supervisor", "id", spec.id, "each child needs an id of its own")
        seen.add(spec.id)
    return None


def _is_number(value: object, at_least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and at_least <= value < float("inf")


def _is_int(value: object, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _is_condition(value: object) -> bool:
    if isinstance(value, (tuple, type)):
        types = value if isinstance(value, tuple) else (value,)
        return all(isinstance(each, type) and issubclass(each, BaseException) for each in types)
    return value is None or callable(value)
