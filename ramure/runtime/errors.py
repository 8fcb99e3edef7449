"""What the runtime raises."""

from __future__ import annotations

from ramure.errors import ExecutionFailed, OperationalError, UsageError
from ramure.exits import format_exit

__all__ = [
    "AgentDied",
    "BodyStuck",
    "EndpointError",
    "NoProcess",
    "NoSuchEndpoint",
    "NotAwaited",
    "ProcessCancelled",
    "ProcessEnded",
    "ProcessFailed",
    "ProcessTimeout",
    "Stalled",
    "WaitsForItself",
    "WrongArguments",
    "WrongEvent",
    "WrongResult",
]


class NoProcess(UsageError):
    """A verb that needs a process was used outside of one."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was called outside of a process; call it in a function decorated with @agent_process "
            f"(or in a task or handler of one)"
        )


class ProcessEnded(OperationalError):
    """The process has ended: nothing can be done in it, or asked of it, any more."""

    def __init__(self, label: str, what: str, reason: object = None) -> None:
        self.reason = reason
        why = f" ({format_exit(reason)})" if reason is not None else ""
        super().__init__(f"{what}: the process {label} has ended{why}")


class ProcessFailed(ExecutionFailed):
    """A process called ``fail(reason)``, or ended in a way that has no exception of its own."""

    def __init__(self, reason: object) -> None:
        self.reason = reason
        text = "" if reason is None else str(reason).strip()
        super().__init__(text or "it failed, and gave no reason")


class ProcessTimeout(ProcessFailed, TimeoutError):
    """A process ran longer than the ``timeout=`` that it was given."""

    def __init__(self, label: str, seconds: float) -> None:
        super().__init__(f"the process {label} did not end within its timeout of {seconds:g} s")


class ProcessCancelled(ExecutionFailed):
    """The process that was awaited was cancelled, or shut down with its parent."""

    def __init__(self, label: str, reason: object) -> None:
        self.reason = reason
        super().__init__(f"the process {label} was cancelled ({format_exit(reason)})")


class AgentDied(ExecutionFailed):
    """An agent ended unasked, and is not restarted (any more). ``reason`` is its exit reason. ``owner``: the process that
    it ended with, if it was used after that."""

    def __init__(self, agent: str, reason: object, owner: str | None = None) -> None:
        self.agent = agent
        self.reason = reason
        self.owner = owner
        if owner is None:
            super().__init__(f"agent {agent!r} died: {format_exit(reason)}")
        else:
            super().__init__(
                f"agent {agent!r} is gone: it ended with the process {owner}, which made it; make the agent in a process "
                "that lives as long as you use it"
            )


class Stalled(ExecutionFailed):
    """A process waits, and nothing can decide it any more. The text says who ended its turn, with its last words, and
    which tools it has not called."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class NoSuchEndpoint(UsageError):
    """The process has no endpoint of this name."""

    def __init__(self, label: str, name: str, existing: list[str]) -> None:
        self.name = name
        self.existing = existing
        have = ", ".join(sorted(existing)) or "none"
        super().__init__(f"the process {label} has no endpoint {name!r}; it has: {have}")


class WrongArguments(UsageError):
    """An endpoint was called with arguments that it does not take. It has not run. For a value that does not fit, ``field``
    is where (``items[2].name``) and ``reason`` is why."""

    def __init__(
        self, label: str, name: str, signature: str, problem: str, field: str | None = None, reason: str | None = None
    ) -> None:
        self.name = name
        self.field = field
        self.reason = reason
        super().__init__(f"endpoint {name!r} of the process {label}: {problem}; it takes {name}{signature}")


class WrongResult(ExecutionFailed):
    """A result is not of the type that was promised: that of the process's own ``-> T``, or of ``wait(T)``. ``field`` is
    where (``result[1].name``), ``reason`` is why, ``value`` is the result."""

    def __init__(self, what: str, field: str, reason: str, value: object, remedy: str) -> None:
        self.field = field
        self.reason = reason
        self.value = value
        super().__init__(f"{what}: {field}: {reason}; {remedy}")


class WrongEvent(UsageError):
    """``emit(type, data)`` with data that is not what ``@agent_process(events=)`` declares. ``field`` is where
    (``data.done``), ``reason`` is why. Nothing was emitted."""

    def __init__(self, type: str, wanted: str, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"emit({type!r}): {field}: {reason}; its data is declared as {wanted}")


class NotAwaited(UsageError):
    """A coroutine stands where its result should: an ``await`` is missing."""


class EndpointError(OperationalError):
    """An endpoint raised an exception, which is ``__cause__``; the process lives on."""

    def __init__(self, label: str, name: str, error: BaseException) -> None:
        super().__init__(f"endpoint {name!r} of the process {label} raised {format_exit(error)}")


class BodyStuck(OperationalError):
    """Code of a process did not end in time after it was cancelled, and was abandoned."""

    def __init__(self, label: str, task: str, seconds: float) -> None:
        super().__init__(
            f"{task!r} of the process {label} did not end within {seconds:g} s of being cancelled, and is abandoned"
        )


class WaitsForItself(UsageError):
    """A process awaited itself, or a process that it is a part of: that one cannot end before this one does."""

    def __init__(self, waiting: str, awaited: str) -> None:
        super().__init__(f"{waiting} awaits {awaited}, which waits for it to end: this would never end")
