"""A simulated pi: an agent without pi, Node and tmux, that speaks the real wire protocol to the real gateway.

It does what pi with ramure's extension does, as far as a run can see: takes the log in, puts messages into its
conversation one at a time, asks its model (a script) and the run's tools, reports, steers, is interrupted, remembers
across restarts. It has none of pi's own tools, and draws nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.pi.session_file import marked
from ramure.agents.tools.calls import CANCELLED
from ramure.agents.wire import (
    PROTOCOL,
    Ack,
    Bye,
    Delivered,
    Entry,
    EntryFrame,
    Frame,
    Hello,
    Report,
    ReportsAck,
    Resend,
    Shutdown,
    ToolResult,
    Welcome,
)
from ramure.testing.conversation import text_of
from ramure.testing.pi_config import MODELS
from ramure.testing.sim_link import Link
from ramure.testing.sim_memory import Memory, OpenCall, calls_of
from ramure.testing.sim_model import SimulatedModel
from ramure.testing.sim_reports import excess, fitted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

__all__ = ["SimulatedPi"]

RETRY_PAUSES: Final = (2.0, 4.0, 8.0)
"""Seconds before pi asks a model again that failed, as its settings have it by default."""


@dataclass(frozen=True, slots=True)
class _Message:
    seq: int
    mark: str
    text: str
    how: str


class SimulatedPi:
    """One life of it. ``config`` is the launch's, ``memory`` its session, ``model`` whom it asks; ``door``: see Link."""

    def __init__(
        self,
        config: Mapping[str, Any],
        memory: Memory,
        model: SimulatedModel,
        session_file: str,
        door: asyncio.Semaphore,
    ) -> None:
        self.agent: str = str(config["agent"])
        self.link: Link = Link(config, self, door)
        self._launch = str(config["launch"])
        self._memory = memory
        self._model = model
        self._session_file = session_file
        self._system_prompt = ""
        self._tools: dict[str, dict[str, Any]] = {}
        self._applied = 0
        self._upto: int | None = None
        self._caught_up = asyncio.Event()
        self._reports: list[Report] = []
        self._report_count = 0
        self._welcomed = False
        self._inbox: list[_Message] = []
        self._news = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[ToolResult]] = {}
        self._busy = False
        self._work: asyncio.Future[Any] | None = None
        self._interrupted = False
        self._cut = False
        """An interrupt has come before that began which it is to end."""
        self._left = True
        """Something may be left to go on with: of a killed pi, or of before a pause."""
        self._paused = False
        self._pausing = False
        self._looked_up = False
        self._failed: str | None = None
        """The run that the model failed in, while the run's side has not said what becomes of it."""
        self._failures = 0
        self._retrying = False
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.screen: str = ""

    async def run(self) -> int:
        """Live; returns the exit status. Cancelling it is a kill: nobody is told."""
        link = asyncio.create_task(self.link.run(), name=f"link of {self.agent}")
        agent = asyncio.create_task(self._live(), name=f"simulated pi {self.agent}")
        try:
            ends: tuple[asyncio.Future[Any], ...] = (link, agent, self._ended)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if agent.done():
                agent.result()  # it does not end but by a defect here
            if link.done():
                self.screen = f"ramure: {link.result()}"
                return 1
            await self.link.close(Bye("quit"))
            return self._ended.result()
        finally:
            for task in (agent, link):
                task.cancel()
            await asyncio.gather(agent, link, return_exceptions=True)

    def quit(self, status: int = 0) -> None:
        """End by itself, as pi does when somebody types /quit or it fails."""
        if not self._ended.done():
            self._ended.set_result(status)

    # -- the wire (as extension/session.ts)

    def hello(self) -> Hello:
        """The first frame of a connection."""
        markers = dict.fromkeys(self._memory.markers())
        return Hello(
            protocol=PROTOCOL,
            launch=self._launch,
            agent=self.agent,
            pi="simulated",
            node="none",
            pid=os.getpid(),
            session_file=self._session_file,
            model=self._model.name,
            state="busy" if self._busy or (self._left and self._is_left()) else "idle",
            applied=self._applied,
            delivered=tuple(seq for seq, _ in markers),
            calls=tuple(self._waiting),
            marks=tuple(mark for _, mark in markers),
        )

    def frame(self, frame: Frame) -> None:
        """A frame from the run."""
        match frame:
            case Welcome(reports=reports, upto=upto):
                self._reports = [report for report in self._reports if report.n > reports]
                if not self._caught_up.is_set():
                    self._upto = upto if self._upto is None else self._upto
                self._welcomed = True
                self._resend_reports(0)
                if self._caught_up.is_set():
                    # The first one may have been lost with its connection, and the run waits for it.
                    self.link.send(Ack(self._applied))
                self._look_whether_caught_up()
            case EntryFrame(prev=prev, entry=entry):
                self._take_entry(prev, entry)
            case ReportsAck(n=n):
                self._reports = [report for report in self._reports if report.n > n]
            case Resend(after=after):
                self._resend_reports(after)
            case ToolResult(call_id=call_id):
                future = self._waiting.get(call_id)
                if future is not None and not future.done():
                    future.set_result(frame)
            case Shutdown():
                self.quit(0)

    def _is_left(self) -> bool:
        left = self._memory.unsettled()
        return bool(self._memory.open_calls()) or (left is not None and left.waiting)

    def _resend_reports(self, after: int) -> None:
        for report in self._reports:
            if report.n > after:
                self.link.send(report)

    def _report(self, kind: str, data: dict[str, Any]) -> None:
        self._report_count += 1
        report = Report(self._report_count, *fitted(kind, data))
        self._reports.append(report)
        if self._welcomed:
            self.link.send(report)

    def _take_entry(self, prev: int, entry: Entry) -> None:
        if entry.seq > self._applied:
            if prev > self._applied:
                self.link.send(Resend(self._applied))
                return
            self._applied = entry.seq
            self._apply(entry)
        self.link.send(Ack(self._applied))
        self._look_whether_caught_up()

    def _apply(self, entry: Entry) -> None:
        data = entry.data
        match entry.type:
            case "message" if (entry.seq, data["mark"]) not in self._memory.markers():
                how = str(data.get("how", "steer"))
                self._inbox.append(_Message(entry.seq, str(data["mark"]), str(data["text"]), how))
                self._news.set()
                if how == "interrupt":
                    self._interrupt()
            case "tool":
                self._tools[data["name"]] = data
            case "tool_removed":
                self._tools.pop(data["name"], None)
            case "system_prompt":
                self._system_prompt = str(data["text"])
            case "interrupt":
                self._interrupt()
            case "pause":
                self._pause(data["paused"] is True)
            case "retry" if data["run"] == self._failed:
                self._decided(retry=data["retry"] is True)

    def _look_whether_caught_up(self) -> None:
        if self._upto is not None and self._applied >= self._upto and not self._caught_up.is_set():
            self.link.send(Ack(self._applied))  # said also where there was nothing to apply: the agent is ready
            self._caught_up.set()

    # -- its life

    async def _live(self) -> None:
        settled = self._memory.last_settled()
        if self._memory.unsettled() is None and settled is not None:
            # The kill may have come between the record of the last run and its report.
            self._report_run(*settled)
        await self._caught_up.wait()
        while True:
            if self._failed is not None and not self._cut:
                await self._more_news()
            elif self._left and (self._cut or not self._paused):
                await self._go_on()
            elif not self._paused and any(message.how != "note" for message in self._inbox):
                await self._run([])
            else:
                await self._more_news()

    async def _more_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _go_on(self) -> None:
        """With what a killed pi, a pause or a failure has left; what becomes of its calls is asked for first."""
        self._left, self._failed = False, None
        left, calls = self._memory.unsettled(), self._memory.open_calls()
        self._interrupted, self._cut = self._cut, False
        self._busy = bool(calls) or (left is not None and left.waiting)
        if self._busy:
            self._report("state", {"state": "busy"})
        if calls:
            await self._interruptible(asyncio.gather(*(self._adopt(call) for call in calls)))
        if self._pausing:
            self._hold_up()
        elif left is not None and (self._interrupted or not left.waiting):
            self._settle(list(left.seqs), left.last, cut=left.waiting)
        elif left is not None and self._paused:
            self._hold_up()
        elif left is not None:
            await self._run(list(left.seqs))
        elif self._busy:
            self._idle()

    async def _adopt(self, call: OpenCall) -> None:
        if call.name in self._tools:
            result = await self._ask_run(call.key, call.call_id, call.name, call.arguments)
            self._memory.add_outcome(call, ok=result.ok, text=result.text)
        else:
            text = f"pi was stopped while {call.name} ran. Whether it took effect is not known."
            self._memory.add_outcome(call, ok=False, text=text)

    async def _run(self, seqs: list[int]) -> None:
        """From a prompt (or what was left) until the model has nothing more to do."""
        self._busy, self._interrupted, self._cut = True, self._cut, False
        self._look_up_model()
        self._report("state", {"state": "busy"})
        retrying, self._retrying = self._retrying, False
        if self._inbox and not (retrying and self._inbox[0].how == "queue"):
            seqs.append(self._take_message())
        retries = 0
        while True:
            last = await self._ask_model()
            if last["stopReason"] == "error" and retries < len(RETRY_PAUSES) and self._model.is_worth_retrying(last):
                retries += 1
                await self._interruptible(asyncio.sleep(RETRY_PAUSES[retries - 1]))
                if not self._interrupted:
                    continue
            if last["stopReason"] in ("error", "aborted"):
                break
            retries = 0
            calls = calls_of(last)
            if calls:
                await self._call_tools(last, calls)
            if self._interrupted:
                last = self._model.new_message()
                self._add_reply(last)
                break
            if self._inbox and self._inbox[0].how != "queue":
                seqs.append(self._take_message())
            elif not calls:
                break
        left = self._memory.unsettled()
        if self._pausing and left is not None and left.waiting:
            self._hold_up()
        elif last["stopReason"] == "error" and not self._interrupted:
            self._fail(seqs, last)
        else:
            self._settle(seqs, last, cut=last["stopReason"] == "error")

    def _look_up_model(self) -> None:
        if not self._looked_up and not self._model.is_known:
            message = f"pi does not know the model {self._model.name}"
            about = {"seq": None, "model": self._model.name, "near": list(MODELS)}
            self._report("problem", {"code": "unknown_model", "message": message, **about})
        self._looked_up = True

    def _fail(self, seqs: list[int], last: dict[str, Any]) -> None:
        """Whether the run goes on is for the run's side to say; meanwhile nothing begins."""
        self._failures += 1
        self._failed = f"{self._launch}/{self._failures}"
        self._left, self._busy, self._pausing = True, False, False
        self._report(
            "run_failed", {"run": self._failed, **_outcome(seqs, last), "model": self._model.name, "compaction": None}
        )

    def _decided(self, *, retry: bool) -> None:
        if not retry:
            left = self._memory.unsettled()
            self._failed, self._left = None, False
            self._settle(list(left.seqs) if left is not None else [], left.last if left is not None else None)
        elif not self._paused:  # else it goes on after the pause
            self._failed, self._retrying = None, True
        self._news.set()

    def _take_message(self) -> int:
        message = self._inbox.pop(0)
        self._memory.add_user(message.seq, message.mark, message.text, _now())
        self._report("user", {"seq": message.seq, "text": marked(message.seq, message.mark, message.text)})
        self.link.send(Delivered((message.seq,), (message.mark,)))
        return message.seq

    def _settle(self, seqs: list[int], last: dict[str, Any] | None, *, cut: bool = False) -> None:
        self._memory.add_run(seqs)
        self._report_run(seqs, {**(last or self._model.new_message()), "stopReason": "aborted"} if cut else last)
        self._idle()

    def _hold_up(self) -> None:
        """A pause has ended the run: it is gone on with after it."""
        self._left = True
        self._idle()

    def _idle(self) -> None:
        self._busy = self._pausing = False
        self._report("state", {"state": "idle"})

    def _report_run(self, seqs: list[int], last: dict[str, Any] | None) -> None:
        self._report("run_end", _outcome(seqs, last))

    async def _ask_model(self) -> dict[str, Any]:
        tools = [{"type": "function", "function": _definition(tool)} for tool in self._tools.values()]
        body = self._memory.request(self._system_prompt, tools, self._model.name)
        message = self._model.new_message()
        if not self._interrupted:
            await self._interruptible(self._model.reply(message, body, self._memory.session_id))
        self._add_reply(message)
        return message

    def _add_reply(self, message: dict[str, Any]) -> None:
        message["entry"] = self._memory.add_message({**message, "timestamp": _now()})
        self._report(
            "assistant",
            {
                "text": text_of(message),
                "tool_calls": [{"id": call["id"], "name": call["name"]} for call in calls_of(message)],
                "stop_reason": message["stopReason"],
                "error": message.get("errorMessage"),
                "model": message["model"],
                "provider": message["provider"],
                "usage": message["usage"],
            },
        )

    # -- tools

    async def _call_tools(self, message: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        tasks = [asyncio.ensure_future(self._call_tool(f"{message['entry']}/{call['id']}", call)) for call in calls]
        await self._interruptible(asyncio.gather(*tasks))
        for task, call in zip(tasks, calls, strict=True):
            if task.cancelled() and not self._pausing:  # interrupted before it began
                self._add_result(call, ToolResult("", False, CANCELLED))

    async def _call_tool(self, key: str, call: dict[str, Any]) -> None:
        started = {"tool_call_id": call["id"], "name": call["name"]}
        self._report("tool_start", {**started, "arguments": call["arguments"]})
        if call["name"] in self._tools:
            result = await self._ask_run(key, call["id"], call["name"], call["arguments"])
        else:
            result = ToolResult(key, ok=False, text=f"Tool {call['name']} not found")
        self._add_result(call, result)
        self._report("tool_end", {**started, "ok": result.ok, "text": result.text[:16_384]})

    def _add_result(self, call: dict[str, Any], result: ToolResult) -> None:
        self._memory.add_message(
            {
                "role": "toolResult",
                "toolCallId": call["id"],
                "toolName": call["name"],
                "content": [{"type": "text", "text": result.text}, *map(_image, result.images)],
                "isError": not result.ok,
                "timestamp": _now(),
            }
        )

    async def _ask_run(self, key: str, call_id: str, name: str, arguments: dict[str, Any]) -> ToolResult:
        call = {"call_id": key, "name": name, "arguments": arguments, "tool_call_id": call_id}
        if reason := excess(call):
            return ToolResult(key, False, f"the call of {name} is too large: {reason}. Pass less, or a file.")
        future: asyncio.Future[ToolResult] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        self._report("tool_call", call)
        try:
            if self._interrupted:  # before it began
                raise asyncio.CancelledError
            return await future
        except asyncio.CancelledError:
            if not self._interrupted or self._pausing:
                raise
            self._report("tool_cancel", {"call_id": key})
            return ToolResult(key, False, CANCELLED)
        finally:
            del self._waiting[key]

    # -- interrupts

    def _interrupt(self) -> None:
        self._pausing = False
        if self._busy:
            self._stop_work()
        elif self._left or (self._inbox and not self._paused):
            self._cut = True
            self._news.set()

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        if not paused and self._failed is not None:
            self._failed, self._retrying = None, True
        if paused and self._busy:
            self._pausing = True
            self._stop_work()
        self._news.set()

    def _stop_work(self) -> None:
        self._interrupted = True
        if self._work is not None:
            self._work.cancel()

    async def _interruptible(self, work: Awaitable[object]) -> None:
        """Wait for ``work`` to end, or to be ended by an interrupt."""

        async def do() -> None:
            await work  # in a task: a gather that is cancelled is not `cancelled()`

        future = self._work = asyncio.create_task(do())
        try:
            await asyncio.wait({future})
        finally:
            self._work = None
            future.cancel()
            await asyncio.wait({future})
            if isinstance(work, Coroutine):
                work.close()  # cancelled before its first step, the task has not awaited it
        if not future.cancelled():
            future.result()


def _image(image: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "mimeType": image["mime_type"], "data": image["data"]}


def _outcome(seqs: list[int], last: dict[str, Any] | None) -> dict[str, Any]:
    """What a run came to."""
    if last is None:
        return {"seqs": seqs, "text": "", "stop_reason": None, "error": None}
    error = last.get("errorMessage") if last["stopReason"] == "error" else None
    return {"seqs": seqs, "text": text_of(last), "stop_reason": last["stopReason"], "error": error}


def _definition(tool: dict[str, Any]) -> dict[str, Any]:
    return {key: tool[key] for key in ("name", "description", "parameters") if key in tool}


def _now() -> int:
    return int(time.time() * 1000)
