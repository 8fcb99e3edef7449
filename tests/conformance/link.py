"""Runs the oracle's scenarios of kind ``link`` on ramure's actors, through the public API alone.

``tests/otp_oracle/README.md`` defines scenarios and results; ``oracle_link.erl`` is the same thing for
Erlang. Each process of a scenario is a function-style actor that does what the controller asks, and keeps
every other message it receives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ramure import actors
from ramure.actors import ActorSystem, Alias, Ask, Down, Exit, Monitor, Ref, receive, self_ref
from ramure.errors import ActorDied, UsageError

MAKES_REF = ("monitor", "monitor_name", "alias", "spawn_monitor")
INBOX = object()


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """The result of one scenario, in the oracle's format."""
    return asyncio.run(_run(scenario))


async def _run(scenario: dict[str, Any]) -> dict[str, Any]:
    async with ActorSystem() as system:
        controller = Controller(system)
        for name in scenario["procs"]:
            controller.add(name, system.spawn(puppet))
        steps = [await controller.step(step) for step in scenario["steps"]]
        result = {
            "name": scenario["name"],
            "steps": steps,
            "dead": dict(sorted(controller.dead.items())),
            "links": controller.links(),
        }
        for ref in controller.refs.values():
            ref.exit("kill")
    return result


async def puppet() -> None:
    """An actor that calls the functions it is asked to, and keeps what else comes."""
    inbox: list[Any] = []
    while True:
        message = await receive()
        if not isinstance(message, Ask):
            inbox.append(message)
        elif message.request is INBOX:
            message.reply(inbox)
            inbox = []
        else:
            message.reply(message.request())


class Controller:
    """Carries out the steps and notes what could be observed."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.refs: dict[str, Ref[Any]] = {}
        self.names: dict[Ref[Any], str] = {}
        self.handles: dict[str, Monitor | Alias] = {}
        self.dead: dict[str, Any] = {}

    def add(self, name: str, ref: Ref[Any]) -> str:
        self.refs[name] = ref
        self.names[ref] = name
        return name

    def keep(self, name: str, handle: Monitor | Alias) -> str:
        self.handles[name] = handle
        return "ok"

    # -- steps ------------------------------------------------------------------------------------

    async def step(self, step: dict[str, Any]) -> dict[str, Any]:
        if not self.known(step):
            return {"op": step["op"], "ret": "unknown"}
        ref = self.refs[step["by"]]
        ret: Any = "not_alive"
        if ref.is_alive():
            try:
                ret = await ref.ask(lambda: self.act(step))
            except ActorDied:
                ret = "dead"
        died = await self.deaths()
        if step["by"] in (name for name, _ in died):
            ret = "dead"
        result = {"op": step["op"], "ret": ret}
        if died:
            result["died"] = died
        if inbox := await self.inboxes():
            result["inbox"] = inbox
        return result

    def known(self, step: dict[str, Any]) -> bool:
        """False when the step names what an earlier one would have made, had it been carried out."""
        return (
            step.get("by", "p1") in self.refs
            and step.get("to", "p1") in self.refs
            and ("ref" not in step or step["op"] in MAKES_REF or step["ref"] in self.handles)
            and all(self.known(act) for act in step.get("acts", ()))
        )

    def act(self, step: dict[str, Any]) -> Any:
        """Do the step, as the actor that calls this."""
        op = step["op"]
        try:
            return OPERATIONS[op](self, step)
        except ActorDied:
            return ["error", "noproc" if op == "link" else "badarg"]
        except UsageError:
            return ["error", "badarg"]

    # -- what could be observed ---------------------------------------------------------------------

    async def deaths(self) -> list[list[Any]]:
        new = [n for n, ref in sorted(self.refs.items()) if n not in self.dead and not ref.is_alive()]
        for name in new:
            self.dead[name] = await self.refs[name].wait()
        return [[name, self.dead[name]] for name in new]

    async def inboxes(self) -> list[list[Any]]:
        inboxes = []
        for name, ref in sorted(self.refs.items()):
            if ref.is_alive() and (messages := await ref.ask(INBOX)):
                inboxes.append([name, self.streams(messages)])
        return inboxes

    def streams(self, messages: list[Any]) -> list[list[Any]]:
        """One stream for each sender: between two senders there is no order to compare."""
        streams: dict[str, list[Any]] = {}
        for message in messages:
            sender, told = self.told(message)
            streams.setdefault(sender, []).append(told)
        return [[sender, _sort_runs(stream)] for sender, stream in sorted(streams.items())]

    def told(self, message: Any) -> tuple[str, list[Any]]:
        match message:
            case Exit(sender=Ref() as sender, reason=reason):
                return self.names[sender], ["EXIT", reason]
            case Down(monitor=made, sender=sender, reason=reason):
                ref_name = next(name for name, handle in self.handles.items() if handle is made)
                return "name" if isinstance(sender, str) else self.names[sender], ["DOWN", ref_name, reason]
            case ("msg", Ref() as sender, text):
                return self.names[sender], ["msg", text]
        raise AssertionError(f"nobody sends {message!r}")

    def links(self) -> list[list[Any]]:
        linked = {
            name: sorted(self.names[other] for other in self.system.info(ref).links)
            for name, ref in sorted(self.refs.items())
            if ref.is_alive()
        }
        return [[name, others] for name, others in linked.items() if others]


def _sort_runs(stream: list[Any]) -> list[Any]:
    """Sort each run of EXIT and DOWN: their order among themselves is not defined."""
    done: list[Any] = []
    run: list[Any] = []
    for message in [*stream, ["msg"]]:
        if message[0] != "msg":
            run.append(message)
            continue
        done += sorted(run, key=_rank)
        done.append(message)
        run = []
    return done[:-1]


def _rank(term: Any) -> Any:
    """Erlang's order of terms as JSON has them: numbers, lists, strings."""
    if isinstance(term, list):
        return (1, [_rank(part) for part in term])
    return (2, term) if isinstance(term, str) else (0, term)


# -- the operations, each done by the current actor -----------------------------------------------------


def _seq(c: Controller, step: dict[str, Any]) -> str:
    for act in step["acts"]:
        c.act(act)
    return "done"


def _tell(c: Controller, target: Any, step: dict[str, Any]) -> str:
    message = ("msg", self_ref(), step["msg"])
    if isinstance(target, str):
        c.system.tell(target, message)
    else:
        target.tell(message)
    return "ok"


def _true(done: object) -> bool:
    return True


def _spawn_monitor(c: Controller, step: dict[str, Any]) -> str:
    ref, made = c.system.spawn_monitor(puppet)
    c.keep(step["ref"], made)
    return c.add(step["name"], ref)


def _handle(c: Controller, step: dict[str, Any]) -> Any:
    return c.handles[step["ref"]]


def _demonitor(c: Controller, step: dict[str, Any]) -> Any:
    return _handle(c, step).cancel(**dict.fromkeys(step.get("options", ()), True))


def _whereis(c: Controller, step: dict[str, Any]) -> str:
    ref = c.system.whereis(step["name"])
    return "undefined" if ref is None else c.names[ref]


OPERATIONS: dict[str, Callable[[Controller, dict[str, Any]], Any]] = {
    "link": lambda c, s: _true(c.refs[s["to"]].link()),
    "unlink": lambda c, s: _true(c.refs[s["to"]].unlink()),
    "monitor": lambda c, s: c.keep(s["ref"], c.refs[s["to"]].monitor()),
    "monitor_name": lambda c, s: c.keep(s["ref"], actors.monitor(s["name"])),
    "demonitor": _demonitor,
    "trap_exit": lambda c, s: actors.trap_exit(s["on"]),
    "exit": lambda c, s: actors.exit(s["reason"]),
    "signal": lambda c, s: _true(c.refs[s["to"]].exit(s["reason"])),
    "send": lambda c, s: _tell(c, c.refs[s["to"]], s),
    "seq": _seq,
    "spawn": lambda c, s: c.add(s["name"], c.system.spawn(puppet)),
    "spawn_link": lambda c, s: c.add(s["name"], c.system.spawn_link(puppet)),
    "spawn_monitor": _spawn_monitor,
    "register": lambda c, s: _true(c.system.register(s["name"], c.refs[s["to"]])),
    "unregister": lambda c, s: _true(c.system.unregister(s["name"])),
    "whereis": _whereis,
    "send_name": lambda c, s: _tell(c, s["name"], s),
    "alias": lambda c, s: c.keep(s["ref"], actors.alias()),
    "unalias": lambda c, s: _handle(c, s).off(),
    "send_alias": lambda c, s: _tell(c, _handle(c, s), s),
    "is_alive": lambda c, s: c.refs[s["to"]].is_alive(),
}
