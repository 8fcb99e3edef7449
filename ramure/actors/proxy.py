"""``ref.proxy()``: an actor's public methods, as asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ramure.actors.messages import Call

if TYPE_CHECKING:
    from ramure.actors.ref import Ref


class Proxy:
    """Stands for the actor's class in ``await ref.proxy().method(...)``; holds no state of its own."""

    def __init__(self, ref: Ref[Any], timeout: float | None) -> None:
        self._ref = ref
        self._timeout = timeout

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        ref, timeout = self._ref, self._timeout
        ref._cell.check_method(name)

        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return ref.ask(Call(name, args, kwargs), timeout=timeout)

        call.__name__ = name
        setattr(self, name, call)
        return call

    def __repr__(self) -> str:
        return f"<proxy of {self._ref!r}>"


def check_public_method(owner: type, base: type, name: str) -> None:
    """Raise AttributeError, saying what there is, unless ``name`` is a public async method of ``owner``."""
    method = None if name.startswith("_") else inspect.getattr_static(owner, name, None)
    if inspect.iscoroutinefunction(method) and not hasattr(base, name):
        return
    public = sorted(
        n
        for n, m in inspect.getmembers_static(owner, inspect.iscoroutinefunction)
        if n[0] != "_" and not hasattr(base, n)
    )
    why = "is not async, and a proxy can only await" if method is not None and not hasattr(base, name) else "is not one"
    raise AttributeError(f"{owner.__name__}.{name} {why}; its public async methods: {', '.join(public) or 'none'}")
