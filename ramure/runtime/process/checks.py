"""The arguments of the decorator API, checked where they enter: what is wrong is said there, with its remedy. Pure."""

from __future__ import annotations

import inspect
import ipaddress
import math
import os
from collections.abc import Mapping
from typing import Any, Final, cast

from ramure.agents.tools.builtin import ANYWHERE, NO_FILES, WORKDIR
from ramure.agents.wire import fits
from ramure.errors import UsageError
from ramure.runtime.process.stream import ENDINGS
from ramure.supervisors import Flags

__all__ = [
    "check_agent",
    "check_count",
    "check_endpoint",
    "check_event",
    "check_files",
    "check_image",
    "check_limit",
    "check_options",
    "check_process",
    "check_source",
    "check_text",
]

ON_IDLE: Final = ("remind", "fail", "report")
"""What can follow when a process is stalled, besides a function of the user's."""


def check_process(function: Any) -> str:
    """The name of a function that can be a process. Raises :class:`UsageError` for one that cannot."""
    name = getattr(function, "__name__", None)
    shown = name if isinstance(name, str) else "name"
    if hasattr(function, "function") and hasattr(function, "run_options"):
        raise UsageError(f"@agent_process was given {function!r}, which is one already: decorate it once")
    if inspect.isasyncgenfunction(function):
        raise UsageError(f"@agent_process: {shown} has a `yield`; use emit(type, data) for what comes meanwhile")
    if not inspect.iscoroutinefunction(function) or not isinstance(name, str):
        raise UsageError(f"@agent_process needs an async function, not {function!r}: write `async def {shown}(...)`")
    return name


def check_endpoint(function: Any, name: str | None) -> str:
    """The name of an endpoint. Raises :class:`UsageError` for what cannot be one."""
    if not callable(function):
        raise UsageError(f"expose({function!r}): give a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"expose({function!r}): an endpoint returns its value, it cannot `yield`; return a list, or emit()"
        )
    called = name if name is not None else getattr(function, "__name__", None)
    if not isinstance(called, str) or not called:
        raise UsageError(f'expose({function!r}): an endpoint needs a name: write expose(name="...")(function)')
    return called


def check_image(what: str, image: object) -> None:
    """An image is an object with ``spawn()``; a class of images is none."""
    if image is not None and (isinstance(image, type) or not callable(getattr(image, "spawn", None))):
        raise UsageError(f"{what}: image={image!r} is no image; give one, such as LocalImage()")


def check_text(what: str, value: object) -> None:
    """Only a text will do."""
    if not isinstance(value, str):
        raise UsageError(f"{what}: give a text, not {value!r}")


def check_event(type: object) -> None:
    """What an event can be called."""
    if not isinstance(type, str) or not type or type in ENDINGS:
        raise UsageError(f"emit({type!r}): give a non-empty text other than {', '.join(sorted(ENDINGS))}")


def check_source(source: object) -> None:
    """What bubbled events can be tagged with."""
    if source is not None and not isinstance(source, str):
        raise UsageError(f"bubble(..., source={source!r}): give a text, or nothing for the process's name")


def check_count(what: str, name: str, value: Any) -> None:
    """A number of things to keep, or None for all."""
    if value is not None and not (_is_int(value) and value >= 1):
        raise UsageError(f"{what}: {name}={value!r}: give a whole number of at least 1, or None")


def check_limit(what: str, value: object) -> None:
    """How many may run at once."""
    if not _is_int(value) or cast("int", value) < 1:
        raise UsageError(f"{what}: limit={value!r}: give how many may run at once, a whole number of at least 1")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("localhost", "localhost.localdomain", "ip6-localhost")


def check_options(options: Mapping[str, Any]) -> None:
    """What ``@agent_process`` is given."""
    what = "@agent_process"
    check_image(what, options["image"])
    _check_seconds(what, "timeout", options["timeout"], optional=True)
    _check_seconds(what, "disk_full_timeout", options["disk_full_timeout"])
    _check_on_idle(what, options["on_idle"])
    for name in ("retain", "rotate_logs"):
        check_count(what, name, options[name])
    port, host, base_url, log_dir = (options[name] for name in ("port", "host", "base_url", "log_dir"))
    if not _is_int(port) or not 0 <= port <= 65535:
        raise UsageError(f"{what}: port={port!r}: give a number from 1 to 65535, or 0 for any that is free")
    if not isinstance(host, str) or not host:
        raise UsageError(f"{what}: host={host!r}: give the address to listen on, such as 127.0.0.1")
    if base_url is not None and not (isinstance(base_url, str) and base_url.startswith(("ws://", "wss://"))):
        raise UsageError(f"{what}: base_url={base_url!r}: give how agents reach the run, as ws://host:port")
    if not _is_loopback(host) and not (base_url or "").startswith("wss://"):
        raise UsageError(
            f"{what}: host={host!r}: agents would send their tokens and conversations over the network in clear. Leave host= "
            "out: agents in containers and on SSH hosts reach the run through tunnels of their machines. For others, put a "
            'TLS proxy before the port, and pass base_url="wss://..." (docs/security.md)'
        )
    if log_dir is not None and not isinstance(log_dir, str | os.PathLike):
        raise UsageError(f"{what}: log_dir={log_dir!r}: give the path of a directory")


def check_agent(what: str, options: Mapping[str, Any]) -> None:
    """What ``agent()`` is given beside its name and machine."""
    for name in ("system_prompt", "model"):
        if options[name] is not None:
            check_text(f"{what}: {name}", options[name])
    prompt = options["system_prompt"]
    if prompt is not None and not fits(prompt):
        raise UsageError(
            f"{what}: system_prompt has {len(prompt)} characters, and is too large (about 16 million are not, fewer "
            "where they are not ASCII); write it to a file on its machine, and give its path"
        )
    check_image(what, options["image"])
    _check_seconds(what, "stale_after", options["stale_after"], zero=False)
    if options["daemons"] not in ("end", "keep"):
        remedy = "choose end (with pi) or keep (until the machine's end)"
        raise UsageError(f"{what}: daemons={options['daemons']!r}: {remedy}")
    _check_seconds(what, "retry_for", options["retry_for"])
    handler = options["on_model_error"]
    if handler is not None and not callable(handler):
        raise UsageError(
            f"{what}: on_model_error={handler!r}: give a function of the error that returns 'retry', 'end' or 'ignore'"
        )
    if options["on_idle"] is not None:
        _check_on_idle(what, options["on_idle"])
    if options["restart"] not in ("transient", "temporary"):
        remedy = "choose transient (after it ended unasked) or temporary (never)"
        raise UsageError(f"{what}: restart={options['restart']!r}: {remedy}")
    # The other options are checked by the classes that take them.
    Flags("one_for_one", options["max_restarts"], options["within"], backoff=options["backoff"])


def _check_seconds(what: str, name: str, value: object, *, optional: bool = False, zero: bool = True) -> None:
    if value is None and optional:
        return
    good = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value) and value >= 0
    if not good or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise UsageError(f"{what}: {name}={value!r}: give seconds ({least}){', or None' if optional else ''}")


def _check_on_idle(what: str, value: object) -> None:
    good = (callable(value) and not isinstance(value, type)) or (isinstance(value, str) and value in ON_IDLE)
    if not good:
        choices = ", ".join(repr(each) for each in ON_IDLE)
        raise UsageError(f"{what}: on_idle={value!r}: choose one of {choices}, or give a function of the Stalled error")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_files(files: object) -> str:
    """``files=`` of ``connect``. Raises :class:`UsageError`."""
    if files in (WORKDIR, ANYWHERE, NO_FILES):
        return str(files)
    path = os.fspath(files) if isinstance(files, os.PathLike) else files
    if isinstance(files, os.PathLike) and isinstance(path, str) and "/" not in path:
        path = f"./{path}"
    if not isinstance(path, str) or "/" not in path or "\0" in path:
        remedy = "use 'workdir', 'machine', 'none', or a folder: a path with a '/' in it, './shared' say"
        raise UsageError(f"connect(files={files!r}): {remedy}")
    if path.startswith("~"):
        raise UsageError(f"connect(files={files!r}): '~' means nothing on the agents' machines: give the full path")
    return path.rstrip("/") or "/"
