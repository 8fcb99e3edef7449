"""Both ends of the protocol under random faults: cut connections, killed pis, lost frames. No sockets, no time.

The far end here is a model of the extension (``extension/session.ts``): it keeps in ``session`` what pi's session file
would hold, and loses everything else when it is killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ramure.agents.delivery import BeginCall, Delivery, Effect, InSession, Reported, Send
from ramure.agents.message_marks import MessageMarks
from ramure.agents.wire import EntryFrame, Frame, Hello, Report, ReportsAck, Resend, ToolResult, Welcome
from tests.scale import examples

MARKS = MessageMarks(b"a key of the tests")


class FarEnd:
    """The extension: one launch of it."""

    def __init__(
        self, launch: str, session: list[int], open_calls: list[str], forged: Sequence[tuple[int, str]] = ()
    ) -> None:
        self.launch = launch
        self.session = session
        self.forged = forged
        """What another program has written into the session's file: seqs and guessed marks."""
        self.applied = 0
        self.outbox: list[int] = []
        self.tools: dict[str, int] = {}
        self.interrupts: list[int] = []
        self.n = 0
        self.reports: list[Report] = []
        self.waiting = set(open_calls)
        self.welcomed = False
        for call_id in open_calls:
            self.report("tool_call", {"call_id": call_id, "name": "t", "arguments": {}})

    def hello(self) -> Hello:
        found = [*((seq, MARKS.of(seq)) for seq in self.session), *self.forged]
        held = (tuple(seq for seq, _ in found), tuple(self.waiting), tuple(mark for _, mark in found))
        return Hello(1, self.launch, "w", "1.5.2", "v24", 1, None, None, "idle", self.applied, *held)

    def report(self, kind: str, data: dict[str, object]) -> None:
        self.n += 1
        self.reports.append(Report(self.n, kind, data))

    def receive(self, frame: Frame) -> list[int | Report]:
        """Applies a frame; answers the reports to send, or [after] for a resend."""
        match frame:
            case Welcome(reports=n):
                self.reports = [report for report in self.reports if report.n > n]
                self.welcomed = True
                return list(self.reports)
            case ReportsAck(n):
                self.reports = [report for report in self.reports if report.n > n]
            case Resend(after):
                return [report for report in self.reports if report.n > after]
            case ToolResult(call_id=call_id):
                self.waiting.discard(call_id)
            case EntryFrame(prev, entry):
                if prev > self.applied:
                    return [self.applied]
                if entry.seq > self.applied:
                    self.applied = entry.seq
                    if entry.type == "message" and entry.seq not in self.session:
                        self.outbox.append(entry.seq)
                    elif entry.type == "tool":
                        self.tools[entry.data["name"]] = entry.seq
                    elif entry.type == "tool_removed":
                        self.tools.pop(entry.data["name"], None)
                    elif entry.type == "interrupt":
                        self.interrupts.append(entry.seq)
        return []


class Protocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.run = Delivery(MARKS)
        self.session: list[int] = []
        self.forged: list[tuple[int, str]] = []
        self.sent: list[int] = []
        self.tools: dict[str, int] = {}
        self.launches = 0
        self.down: list[Frame] = []
        self.up: list[int | Report] = []
        self.connected = False
        self.begun: Counter[str] = Counter()
        self.told: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.interrupted: Counter[int] = Counter()
        self.reported: Counter[object] = Counter()
        self.calls = 0
        self.open_calls: list[str] = []
        self.kill()

    # -- what happens --

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame) if self.connected:
                    self.down.append(frame)
                case BeginCall(call_id=call_id):
                    self.begun[call_id] += 1
                case InSession(seqs):
                    self.told.update(seqs)
                case Reported(data=data):
                    self.reported[data["id"]] += 1

    def append(self, type: str, data: dict[str, object]) -> int:
        return self.run.append(type, data, "run", 0.0)

    @rule()
    def kill(self) -> None:
        """pi dies and is started again; what was on the wire is lost."""
        self.cut()
        self.launches += 1
        self.far = FarEnd(f"l{self.launches}", self.session, self.open_calls, self.forged)

    @rule(kept=st.integers(0, 5))
    def kill_and_cut_the_session(self, kept: int) -> None:
        """pi dies, and its session file loses its end."""
        self.lost.update(self.session[kept:])
        del self.session[kept:]
        self.kill()

    @rule(ahead=st.integers(-2, 5), mark=st.sampled_from(["", "aaaaaaaa", MARKS.of(1)]))
    def forge(self, ahead: int, mark: str) -> None:
        """Another program writes a message into the session's file, of a seq that the run has given or will give."""
        seq = max(2, self.run.last_seq + ahead)
        self.forged.append((seq, mark))

    @rule()
    def cut(self) -> None:
        self.connected = False
        self.down.clear()
        self.up.clear()
        self.carry_out(self.run.on_disconnected())

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.carry_out(self.run.on_hello(self.far.hello()))

    @rule(type=st.sampled_from(["message", "note", "interrupt"]))
    def add(self, type: str) -> None:
        seq = self.append(type, {})
        if type == "message":
            self.sent.append(seq)

    @rule(name=st.sampled_from("ab"), type=st.sampled_from(["tool", "tool_removed"]))
    def change_tool(self, name: str, type: str) -> None:
        seq = self.append(type, {"name": name})
        if type == "tool":
            self.tools[name] = seq
        else:
            self.tools.pop(name, None)

    @rule(back=st.integers(0, 2))
    def write(self, back: int) -> None:
        """The writer has got so far, some entries behind."""
        self.carry_out(self.run.written(self.run.last_seq - back))

    @precondition(lambda self: self.down)
    @rule(lost=st.booleans())
    def pass_down(self, lost: bool) -> None:
        frame = self.down.pop(0)
        # A frame lost within a connection does not happen on TCP; the gap rule must still mend it.
        if not (lost and isinstance(frame, EntryFrame)):
            before = len(self.far.interrupts)
            self.up += self.far.receive(frame)
            self.interrupted.update((self.far.launch, seq) for seq in self.far.interrupts[before:])

    @precondition(lambda self: self.up)
    @rule()
    def pass_up(self) -> None:
        item = self.up.pop(0)
        if isinstance(item, Report):
            self.carry_out(self.run.on_report(item))
        else:
            self.carry_out(self.run.on_resend(item))

    @precondition(lambda self: self.far.outbox)
    @rule(told=st.booleans())
    def converse(self, told: bool) -> None:
        """pi takes the next message into its session; the word of it may be lost with the connection."""
        seq = self.far.outbox.pop(0)
        self.session.append(seq)
        if told and self.connected:
            self.carry_out(self.run.on_delivered([seq], [MARKS.of(seq)]))

    @rule()
    def call_tool(self) -> None:
        self.calls += 1
        call_id = f"c{self.calls}"
        self.open_calls.append(call_id)
        self.far.waiting.add(call_id)
        self.far.report("tool_call", {"call_id": call_id, "name": "t", "arguments": {}})
        self.flush()

    @rule()
    def say(self) -> None:
        self.far.report("state", {"id": (self.far.launch, self.far.n)})
        self.flush()

    def flush(self) -> None:
        if self.connected and self.far.welcomed:
            self.up.append(self.far.reports[-1])

    @precondition(lambda self: self.run.running)
    @rule()
    def finish_call(self) -> None:
        self.carry_out(self.run.call_done(min(self.run.running), True, "r"))

    # -- what must hold --

    @invariant()
    def each_message_is_in_the_session_at_most_once_and_in_order(self) -> None:
        assert self.session == [seq for seq in self.sent if seq in set(self.session)]
        assert self.session == self.sent[: len(self.session)]

    @invariant()
    def nothing_takes_effect_twice(self) -> None:
        for counted in (self.begun, self.interrupted, self.reported):
            assert all(count == 1 for count in counted.values())
        assert all(count <= 1 + self.lost[seq] for seq, count in self.told.items())

    def teardown(self) -> None:
        """Without further faults, everything arrives."""
        self.carry_out(self.run.written(self.run.last_seq))
        self.cut()
        self.connect()
        for _ in range(10_000):
            while self.run.running:
                self.finish_call()
            if self.up:
                self.pass_up()
            elif self.down:
                self.pass_down(False)
            elif self.far.outbox:
                self.converse(True)
            else:
                break
        assert self.session == self.sent
        assert not self.run.undelivered
        assert set(self.begun) == set(self.open_calls)
        assert not self.far.waiting
        assert not self.far.reports
        assert self.far.tools == self.tools


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=examples(500), stateful_step_count=60)
