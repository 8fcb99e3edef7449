"""The agent: an actor that keeps a conversation going, whatever happens to the pi that holds it.

Its child is a :class:`~ramure.agents.pi.session.Session`: one life of pi. The agent itself lives from its first
launch to its end; monitors on it fire once, then.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.actors import NO_REPLY, Actor, Ask, Exit, Ref
from ramure.agents import backlog
from ramure.agents import crash_texts as deaths
from ramure.agents.ask_queue import AskQueue
from ramure.agents.cleanup import Cleanups
from ramure.agents.delivery import (
    DELIVERED_TYPES,
    BeginCall,
    CancelCall,
    Delivery,
    Effect,
    Forged,
    InSession,
    MissingFromSession,
    Refuse,
    Reported,
    Send,
)
from ramure.agents.errors import AgentEnded, MessageTooLarge, ModelError, ToolExists
from ramure.agents.models.retries import Retries
from ramure.agents.models.watch import Hooks, ModelWatch
from ramure.agents.pi.session import (
    CommandsEnded,
    Connected,
    Disconnected,
    ForgedRemoved,
    FrameIn,
    SaveMemory,
    Session,
    SessionPlan,
)
from ramure.agents.requests import (
    AddPeer,
    AddTool,
    AgentOptions,
    AskModel,
    Interrupt,
    Pause,
    Ready,
    RemoveTool,
    Say,
    Unpause,
)
from ramure.agents.restart_history import RestartHistory
from ramure.agents.tools.builtin import Peer, builtin_tools
from ramure.agents.tools.calls import CANCELLED, Calls
from ramure.agents.turns import Turns
from ramure.agents.wire import Ack, Delivered, ErrorFrame, Frame, FrameTooLarge, Report, ReportsAck, Resend, fits
from ramure.agents.work import AT_WORK, Work
from ramure.exits import Crashed, format_exit, is_clean
from ramure.machines.actor import Exec, GetRemoteHome, end_with
from ramure.machines.base import Machine
from ramure.machines.errors import MachineDown, WorkdirGone
from ramure.masking import get_logger, masked, masked_values
from ramure.supervisors import ChildSpec, StartWith, Supervisor, SupervisorEvent
from ramure.tracebacks import fold, format_traceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramure.agents.requests import Usage
    from ramure.agents.services import Connection, Services
    from ramure.agents.tools.results import Picture
    from ramure.agents.wire import Hello
    from ramure.machines.remote_home import RemoteHome

__all__ = ["AgentActor", "State"]

logger: logging.Logger = get_logger("ramure.agents")

ACK_DELAY: Final = 0.05
"""Seconds for which acknowledgements of reports are gathered."""

ROOM: Final[dict[str, Any]] = {"full": False, "path": "", "reason": "", "needed": 0}
"""A report of the kind ``disk``: there is none of that trouble."""

_to_line: Final = json.JSONEncoder(ensure_ascii=False, default=str).encode

State = Literal["provisioning", "launching", "connecting", "idle", "busy", "waiting_for_model", "restarting", "ended"]


@dataclass(frozen=True, slots=True)
class _Written:
    """The log has the entry."""

    seq: int
    caller: Ask | None = None


@dataclass(frozen=True, slots=True)
class _CallWritten:
    """The log has this call."""

    call: BeginCall


@dataclass(frozen=True, slots=True)
class _SessionNews:
    """What the supervisor of the session decided."""

    event: SupervisorEvent


@dataclass(frozen=True, slots=True)
class _Later:
    """A timer of the agent's own is over."""

    action: Callable[[], None]


class AgentActor(Actor):
    """One agent. When its pi ends unasked, its session is started again, with the same conversation, as its
    ``restart`` says; when that is used up, it ends with the reason of the last end."""

    async def init(self, options: AgentOptions) -> None:
        self.trap_exit = True
        self.options = options
        self.name: str = options.name
        self.address: str = options.address
        self.services: Services = options.services
        self.delivery: Delivery = Delivery(options.marks)
        self._backlog = backlog.Backlog()
        self.usage: Usage = options.usage
        self.turns: Turns = Turns()
        self.work: Work = Work()
        self.state: State = "provisioning"
        self._clock = self.system.clock
        self.since: float = self._clock.wall()
        self.machine: Machine | None = None
        self.remote_home: RemoteHome | None = None
        self.session: Ref[Session] | None = None
        self.connection: Connection | None = None
        self.pi_version: str | None = None
        self._calls = Calls(self.address, self._cell.own_task, self._call_done, self._tool_failed, self.ref)
        self._tools = self._calls.tools
        self._peers: dict[str, Peer] = {}
        self._for_peers: set[str] = set()
        """The tools that it has because it is connected."""
        self._ready: list[Ask] = []
        self._ack: ReportsAck | None = None
        self._questions = AskQueue(
            self.name, lambda text: self._append("message", {"text": text, "how": "queue"}, "run")
        )
        self.history: RestartHistory = RestartHistory(
            options,
            self.ref,
            self._clock,
            self._lifecycle,
            self._tell_pi,
            self.work,
        )
        self.model: ModelWatch = ModelWatch(
            self.name,
            self.address,
            Hooks(
                self.ref,
                self._waits_for_model,
                self._tell_retry,
                self._questions.waits_for,
                self._lifecycle,
                self._later,
                self._cell.own_task,
                self.stop,
            ),
            Retries(options.retry_for, options.model_backoff),
            self._clock,
            options.on_model_error,
        )
        self.cleanups: Cleanups = Cleanups(self.system.loop)
        self._welcomed = False
        self._goes_on = False
        """True when pi, as it connects, has something to go on with that an earlier life has left."""
        self._disk_told = False
        """Whether the present pi has said whether it has room for its conversation."""
        self._supervisor: Ref[Supervisor] | None = None
        self.paused: bool = False
        self.link(options.machine)
        if options.system_prompt:
            self._append("system_prompt", {"text": options.system_prompt}, "run")
        self.start_task(self._provision(), name=f"machine of {self.address}")

    @property
    def restarts(self) -> int:
        """How often its pi was started again."""
        return self.history.restarts

    async def _provision(self) -> None:
        remote_home: RemoteHome = await self.options.machine.ask(GetRemoteHome(), timeout=None)
        self.remote_home, self.machine = remote_home, remote_home.machine
        self._to("launching")
        options, me = self.options, self.ref
        spec = ChildSpec(
            self.address,
            StartWith(self._start_session),
            restart=options.restart,
            restart_if=self._worth_a_restart,
            shutdown="infinity",
            type="supervisor",
            significant=True,
        )
        self._supervisor = await self.system.options(link=True, label=f"session of {self.address}").start(
            Supervisor,
            [spec],
            intensity=options.max_restarts,
            period=options.within,
            backoff=options.backoff,
            auto_shutdown="any_significant",
            on_event=lambda event: me.tell(_SessionNews(event)),
        )

    async def _start_session(self) -> Ref[Session]:
        """One life of pi, linked to the supervisor that this runs in."""
        assert self.remote_home is not None
        plan = SessionPlan(
            self.ref,
            self.name,
            self.address,
            self.remote_home,
            self.services,
            self.cleanups,
            self.options.marks,
            self.options.model,
            **{
                "stale_after": self.options.stale_after,
                "daemons": self.options.daemons,
                **self.options.session,
            },
        )
        self.session = await self.system.options(link=True, label=f"pi of {self.address}").start(Session, plan)
        return self.session

    def _worth_a_restart(self, reason: object) -> bool:
        """A pi that has never come up would not the second time; one without a model would not answer, and one
        without a directory to work in would not start."""
        return self.history.was_ready and not (
            isinstance(reason, Crashed) and isinstance(reason.exception, (ModelError, WorkdirGone))
        )

    @property
    def tools(self) -> list[str]:
        """The names of its tools."""
        return sorted(self._tools)

    @property
    def calls(self) -> list[str]:
        """The ids of the tool calls under way."""
        return self._calls.running

    @property
    def quiet(self) -> bool:
        """True when it is idle and nothing is under way that will set its model to work."""
        return self.state == "idle" and not self.paused and not self.outstanding

    @property
    def outstanding(self) -> bool:
        """True while a message is on its way to the model, a question waits for its answer, or a tool is called."""
        return self.delivery.due or self._questions.waiting or bool(self.calls)

    def tool_table(self) -> dict[str, AddTool]:
        """Its tools by name, with the context that each is called in."""
        return dict(self._tools)

    # -- requests -----------------------------------------------------------------------------------------

    def handle_call(self, request: object, caller: Ask) -> Any:
        match request:
            case Ready():
                if self._welcomed:
                    return None
                self._ready.append(caller)
                return NO_REPLY
            case Say() | AskModel():
                self._on_words(request, caller)
                return NO_REPLY
            case Interrupt():
                self._append("interrupt", {}, "run", caller)
                return NO_REPLY
            case Pause() | Unpause():
                return self._pause() if isinstance(request, Pause) else self._unpause()
            case AddTool(tool=tool):
                if tool.name in self._tools:
                    caller.fail(ToolExists(self.name, tool.name))
                    return NO_REPLY
                self._tools[tool.name] = request
                self._append("tool", tool.definition(), "run", caller)
                return NO_REPLY
            case AddPeer(peer=peer):
                return self._add_peer(peer, caller)
            case RemoveTool(name=name):
                self._tools.pop(name, None)
                self._append("tool_removed", {"name": name}, "run", caller)
                return NO_REPLY
            case Exec():
                self.start_task(self._exec(request, caller))
                return NO_REPLY
            case _:
                return super().handle_call(request, caller)

    def _on_words(self, request: Say | AskModel, caller: Ask) -> None:
        """A message or a question for the model."""
        if not fits(request.text):
            caller.fail(MessageTooLarge(self.name, len(request.text)))
            return
        self.turns.on_message("run" if isinstance(request, AskModel) else request.origin, self._clock)
        if isinstance(request, AskModel):
            self._questions.ask(caller, request.text)
        else:
            self._append("message", {"text": request.text, "how": request.how}, request.origin, caller)

    def _pause(self) -> None:
        """Hold up what the model is doing, and what comes."""
        if self.paused:
            return
        self.paused = True
        self.model.on_pause()
        self._append("pause", {"paused": True}, "person")
        self._event("paused", {"interrupted": self.state in AT_WORK})

    def _unpause(self) -> None:
        if not self.paused:
            return
        self.paused = False
        self.model.on_pause()
        self._append("pause", {"paused": False}, "person")
        self._event("resumed", {})

    def _add_peer(self, peer: Peer, caller: Ask) -> Any:
        """Offer the built-in tools. An agent that others only reach has them too: they say that it cannot answer."""
        before = self._peers.get(peer.address)
        if before is not None and before.reachable and not peer.reachable:
            peer = before  # a second, one-way connection takes nothing away
        peers = {**self._peers, peer.address: peer}
        tools = builtin_tools(self.name, self._own_machine, peers)
        own = [tool.name for tool in tools if tool.name in self._tools and tool.name not in self._for_peers]
        if own:
            caller.fail(ToolExists(self.name, own[0]))
            return NO_REPLY
        self._peers[peer.address] = peer
        for tool in builtin_tools(self.name, self._own_machine, self._peers):
            self._for_peers.add(tool.name)
            self._tools[tool.name] = AddTool(tool, self._cell.context.copy())
            self._append("tool", tool.definition(), "run")
        return None

    def _own_machine(self) -> Machine:
        assert self.machine is not None  # a tool call came from it
        return self.machine

    async def _exec(self, request: Exec, caller: Ask) -> None:
        end_with(caller)
        try:
            caller.reply(await self.options.machine.ask(request, timeout=None))
        except Exception as error:
            caller.fail(error)

    # -- the log --------------------------------------------------------------------------------------------

    def _append(self, type: str, data: dict[str, Any], origin: str, caller: Ask | None = None) -> int:
        """Make the log's next entry. It is delivered, and ``caller`` answered, once it is written."""
        if type not in DELIVERED_TYPES:  # it goes nowhere else but into the log, so nothing waits for it
            self._write(self._next_line(type, data, origin), None)
            return self.delivery.last_seq
        written = _Written(self.delivery.last_seq + 1, caller)
        if self._write(self._next_line(type, data, origin), written):
            self._on_written(written)
        return written.seq

    def _next_line(self, type: str, data: dict[str, Any], origin: str) -> bytes:
        """Make the log's next entry; its line."""
        now = self._clock.wall()
        seq = self.delivery.append(type, data, origin, now)
        text = _to_line({"seq": seq, "ts": now, "type": type, "data": data, "origin": origin}) + "\n"
        return text.encode("utf-8", "surrogatepass")

    def _write(self, line: bytes, token: object) -> bool:
        """Write an entry's line. True if it is written; else ``token`` comes back as a message when it is."""
        large = token is None and len(line) >= backlog.LARGE
        if large:
            token = backlog.LargeWritten(len(line))
        written = self.services.append(self.address, line, None if token is None else self.ref, token)
        if large and not written:
            self._backlog.on_large(len(line))
        return written

    def _on_written(self, written: _Written | _CallWritten | backlog.LargeWritten) -> None:
        if isinstance(written, _CallWritten):
            self._start_call(written.call)
            return
        if isinstance(written, backlog.LargeWritten):
            self._backlog.on_written(written)
            return
        self._carry_out(self.delivery.written(written.seq))
        if written.caller is not None:
            written.caller.reply(written.seq)

    def _tell_pi(self, text: str) -> None:
        self._append("message", {"text": text, "how": "note"}, "ramure")

    def _tell_retry(self, run: str, retry: bool) -> None:
        self._append("retry", {"run": run, "retry": retry}, "ramure")

    def _event(self, type: str, data: Any) -> None:
        """Something happened: into the log (for readers; not delivered) and to the agent's stream."""
        line = self._next_line(type, data, "agent")
        self._write(line, None)
        self.options.on_event(type, data, len(line))

    def _to(self, state: State) -> None:
        if state != self.state:
            self.state, self.since = state, self._clock.wall()
            self.work.on_state(state, self._clock.monotonic())
            self._event("state", {"state": state})

    # -- messages -------------------------------------------------------------------------------------------

    def handle_info(self, message: object) -> None:
        match message:
            case FrameIn(connection=connection, frame=frame):  # first, as most are
                if connection is self.connection:
                    self._on_frame(frame)
                self._backlog.taken(connection)
            case _Written() | _CallWritten() | backlog.LargeWritten():
                self._on_written(message)
            case Connected(session=session, connection=connection, hello=hello):
                if session is self.session:
                    self._on_hello(connection, hello)
            case Disconnected(connection=connection, reason=reason):
                if connection is self.connection:
                    self.connection = None
                    self._append("connection", {"state": "lost", "reason": reason}, "agent")
                    self._carry_out(self.delivery.on_disconnected())
            case _SessionNews(event=event):
                self._on_session(event)
            case CommandsEnded() | ForgedRemoved():
                self._on_found(message)
            case _Later(action=action):
                action()
            case Exit(sender=sender, reason=reason):
                self._on_exit(sender, reason)
            case _:
                super().handle_info(message)

    def _on_found(self, found: CommandsEnded | ForgedRemoved) -> None:
        """What the session has found behind the last pi or before the next."""
        if isinstance(found, CommandsEnded):
            self.history.on_ended(found.commands)
        else:
            self._session_forged(found.seqs, "They have been taken out.")

    def _on_hello(self, connection: Connection, hello: Hello) -> None:
        self.connection = connection
        self._ack = None  # it may be about another launch's reports
        self.pi_version = hello.pi
        self._goes_on = hello.state == "busy"
        state = "back" if self._welcomed else "new"
        self._append("connection", {"state": state, "pi": hello.pi, "pid": hello.pid}, "agent")
        if not self._welcomed:
            self._to("connecting")
        elif hello.instance > 1:  # a person's other session, in the same pi: what the old one did has ended
            self._to("busy" if hello.state == "busy" else "idle")
        self._carry_out(self.delivery.on_hello(hello))

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self.send_after(delay, _Later(action))

    def _send_ack(self) -> None:
        ack, self._ack = self._ack, None
        if ack is not None:
            self._send_now(ack)

    def _on_frame(self, frame: object) -> None:
        delivery = self.delivery
        match frame:
            case Report():
                self._carry_out(delivery.on_report(frame))
            case Ack(applied=applied):
                self._carry_out(delivery.on_ack(applied))
                if not self._welcomed:
                    self._welcome()
            case Delivered(seqs=seqs, marks=marks):
                self._carry_out(delivery.on_delivered(seqs, marks))
            case Resend(after=after):
                self._carry_out(delivery.on_resend(after))
            case ErrorFrame():
                self._event("problem", {"code": frame.code, "message": frame.message})

    def _welcome(self) -> None:
        """pi has applied what there was at its start: it knows its tools."""
        self._welcomed = True
        if not self._disk_told:  # what the pi before this one lacked, this one has
            self.services.disk(self.address, ROOM, self.machine)
        if self.state in ("launching", "connecting", "restarting"):
            self._to("busy" if self._goes_on else "idle")
        self.history.on_ready()
        for caller in self._ready:
            caller.reply(None)
        self._ready.clear()

    def _send(self, frame: Frame) -> None:
        if isinstance(frame, ReportsAck):
            # It only lets the extension forget what it has sent: one for many, and behind what pi waits for.
            if self._ack is None:
                self._later(ACK_DELAY, self._send_ack)
            self._ack = frame
            return
        self._send_now(frame)

    def _send_now(self, frame: Frame) -> None:
        if self.connection is None:
            return  # it is sent again when the extension is back
        try:
            self.connection.send(frame)
        except FrameTooLarge as error:
            self._event("problem", {"code": "too_large", "message": str(error)})

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame=frame):
                    self._send(frame)
                case Reported(kind=kind, data=data):
                    self._on_report(kind, data)
                case Refuse(reason=reason):
                    if self.connection is not None:
                        self.connection.close(4400, reason)
                    self._event("problem", {"code": "refused", "message": reason})
                case InSession(seqs=seqs):
                    self._event("delivered", {"seqs": list(seqs)})
                case MissingFromSession(seqs=seqs, again=again):
                    self._session_lost(seqs, again)
                case Forged(seqs=seqs):
                    self._session_forged(seqs, "They count as none of the run's.")
                case BeginCall():
                    self._begin(effect)
                case CancelCall(call_id=call_id):
                    if not self._calls.cancel(call_id):  # the log does not have it yet: it never begins
                        self._call_done(call_id, False, CANCELLED, call_id, ())

    def _session_lost(self, seqs: tuple[int, ...], again: tuple[int, ...]) -> None:
        text = f"messages {list(seqs)} are gone from the conversation; delivered again: {list(again) or 'none'}"
        self._lifecycle("problem", {"code": "session_lost", "message": text})
        self._questions.on_lost(set(seqs).difference(again))
        if again:
            self._tell_pi(deaths.LOST)

    def _session_forged(self, seqs: tuple[int, ...], so: str) -> None:
        text = deaths.forged(seqs, so)
        logger.warning("agent %r: %s", self.address, text)
        self._lifecycle("problem", {"code": "session_forged", "message": text})

    # -- reports --------------------------------------------------------------------------------------------

    def _on_report(self, kind: str, data: dict[str, Any]) -> None:
        if isinstance(data.get("error"), str):
            data = {**data, "error": masked(data["error"])}
        self.turns.on_report(kind, data, self._clock)
        match kind:
            case "state":
                self._on_state(busy=data.get("state") == "busy")
                return
            case "run_failed":
                self.model.on_run_failed(data)
                return  # told as a model_error
            case "assistant":
                self._on_reply(data)
            case "run_end":
                self._questions.on_run_end(data, self.model.on_run_end(data))
            case "tool_start" | "tool_end":
                self.work.on_tool(kind, data, self.system.clock.wall())
            case "disk":
                self._disk_told = True
                self.services.disk(self.address, data, self.machine)
                return  # told as an alarm
            case "problem":
                told = self.model.on_problem(data, self.options.model)
                if told is None:
                    return
                data = told
        self._event(kind, data)

    def _on_state(self, *, busy: bool) -> None:
        if busy:
            self.model.on_busy()
        self._to("busy" if busy else "idle")
        if not self._welcomed:
            self._welcome()
        if self.state == "idle" and self.session is not None:
            self.session.tell(SaveMemory(settled=True))

    def _on_reply(self, data: dict[str, Any]) -> None:
        if self.session is not None:
            self.session.tell(SaveMemory(settled=False))
        self.work.model_error = str(data.get("error")) if data.get("stop_reason") == "error" else None
        usage = data.get("usage")
        if isinstance(usage, dict):
            before = self.usage.tokens
            self.usage.add(usage, f"{data.get('provider') or 'unknown'}/{data.get('model') or 'unknown'}")
            self.work.on_tokens(self.usage.tokens - before, self.system.clock.monotonic())
        self.model.on_assistant(data)

    def _waits_for_model(self, waits: bool) -> None:
        if waits:
            self._to("waiting_for_model")
        elif self.state == "waiting_for_model":
            self._to("busy")

    # -- tools ------------------------------------------------------------------------------------------------

    def _begin(self, call: BeginCall) -> None:
        """A call is in the log before it is carried out: if this program is killed, the log says what was under way."""
        if call.name in self._tools:  # what it calls otherwise is its own invention
            self.turns.on_call(call.name)
        data = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        line = self._next_line("tool_call", data, "agent")
        written = self._write(line, _CallWritten(call))
        self.options.on_event("tool_call", data, len(line))
        if written:
            self._start_call(call)

    def _start_call(self, call: BeginCall) -> None:
        if call.call_id in self.delivery.running:  # else it was cancelled meanwhile
            self._calls.start(call)

    def _tool_failed(self, tool: str, error: BaseException) -> None:
        text = format_exit(error)
        trace = format_traceback(error) if error.__traceback__ is not None else ""
        self.services.log("tool_error", {"agent": self.address, "tool": tool, "error": text, "traceback": trace})
        told = fold(error) if trace else None
        logger.warning("agent %r: the handler of its tool %r failed: %s", self.address, tool, text, exc_info=told)

    def _call_done(self, call_id: str, ok: bool, text: str, by: str, pictures: tuple[Picture, ...]) -> None:
        """The call's answer goes out at once: a turn of the mailbox would only make the model wait."""
        if not self.ref.is_alive():
            return
        began = self.system.loop.time()
        self._carry_out(self.delivery.call_done(call_id, ok, text, pictures))
        repeats = {} if by == call_id else {"repeats": by}
        images = {"images": [picture.mime_type for picture in pictures]} if pictures else {}
        self._event("tool_result", {"call_id": call_id, "ok": ok, "text": text, **images, **repeats})
        if self.connection is not None:
            self.connection.spend(self.system.loop.time() - began)

    # -- endings ------------------------------------------------------------------------------------------------

    def _on_exit(self, sender: Ref[Any] | None, reason: object) -> None:
        if sender is self._supervisor and sender is not None:
            # Its own reason is only that it gave up, or that its last child ended: the session's says why.
            why = self.history.last_end if self.history.last_end is not None else reason
            if is_clean(why):
                why = Crashed(AgentEnded(self.name))
            elif why is self.history.last_end:
                self.services.death_is_told(self.ref, why)
            self.stop(why)
        elif sender is self.options.machine and sender is not None:
            why = reason if isinstance(reason, Crashed) else Crashed(MachineDown(self._place(sender), _stopped(reason)))
            self.stop(why)

    def _place(self, machine: Ref[Any]) -> str:
        return self.machine.describe() if self.machine is not None else machine.label

    def _on_session(self, event: SupervisorEvent) -> None:
        """The session ended, was started again, or is not any more."""
        became = self.history.on_session(event, self.state, self._tools)
        if became is not None:
            self.model.on_down()
            self.connection = None
            if self.session is event.ref:  # else its successor's start was quicker than this news
                self.session = None
            self._carry_out(self.delivery.on_disconnected())
            self._welcomed = self._disk_told = False
        if became == "down":
            self._to("restarting")

    def _lifecycle(self, type: str, data: dict[str, Any]) -> None:
        """A death of the agent's pi, and what came of it: into the run's log as well."""
        data = masked_values(data)
        if type == "model_error":
            self.work.model_error = str(data.get("text"))
        self._event(type, data)
        self.services.log(type, {"agent": self.address, **data})

    async def terminate(self, reason: object) -> None:
        if self._supervisor is not None and self._supervisor.is_alive():
            self._supervisor.exit("shutdown")
            await self._supervisor.wait()
        await self.cleanups.wait()
        self.services.disk(self.address, ROOM, self.machine)
        self._to("ended")


def _stopped(reason: object) -> str:
    return "it was stopped" if is_clean(reason) else format_exit(reason)
