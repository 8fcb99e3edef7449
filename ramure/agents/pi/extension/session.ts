// One pi session as the run sees it: the log applied to it, messages delivered into it, its runs reported.

import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import { Compaction } from "./compaction.ts";
import {
	CALL_ENTRY,
	callsOf,
	forRequest,
	isNudge,
	lastSettled,
	type Marker,
	marked,
	markerOf,
	Markers,
	type Message,
	NUDGE,
	type Outcome,
	openCalls,
	outcomesIn,
	RUN_ENTRY,
	type SessionEntry,
	seqOf,
	textOf,
	unsettled,
} from "./conversation.ts";
import { Disk } from "./disk.ts";
import { nearest } from "./names.ts";
import { FULL } from "./reserve.ts";
import type { Kept } from "./session_file.ts";
import { type Answer, imagesIn, Tools } from "./tools.ts";
import { type Entry, fitted, type Frame, Inbox, PROTOCOL, Reports } from "./wire.ts";

const HOWS = ["steer", "queue", "interrupt", "note"] as const;

interface Outgoing extends Marker {
	text: string;
	/** A note goes along with what pi does next; it sets nothing going. */
	how: (typeof HOWS)[number];
}

export interface Host {
	send(frame: Frame): boolean;
	end(why: string, status: number): void;
}

/** Errors that pi 0.74 retries after a pause during which it looks idle; later versions say themselves when they settled. */
const RETRIED = /overloaded|rate.?limit|too many requests|429|50[0234]|unavailable|(server|internal|network|connection|provider returned).?error|connection|socket|fetch failed|ended without|time?d? ?out|terminated|retry delay/i;
const RETRY_PAUSES = [2000, 4000, 8000];
/** How long pi looks idle after a compaction before it goes on: with the run that was too large, or with what waited. */
const GOES_ON = { failed: 2000, other: 400 };
/**
 * How long an abort that was not ours waits for its meaning: pi 1.6 aborts its run before it exits (at SIGHUP, ctrl-c), and the
 * next launch is to go on with that one. A person's abort settles after this time.
 */
const ABORT_MEANS = 1000;
const START_LIMIT = 4000;
/** Messages in a row that pi took without beginning to work; then it is said that it does not. */
const STARTS = 4;
const SLOW_START = 60_000;

const now = (): number => performance.now();

/** `provider/id`; undefined when there is none, of which some versions make a model that is unknown. */
function modelName({ model }: ExtensionContext): string | undefined {
	return model && model.provider !== "unknown" ? `${model.provider}/${model.id}` : undefined;
}

export class Session {
	readonly tools: Tools;
	private readonly inbox = new Inbox();
	private readonly reports = new Reports();
	private readonly outbox: Outgoing[] = [];
	private readonly delivered = new Markers();
	/** Aborted by an interrupt that comes before pi goes on: it is not to. */
	private goingOn = new AbortController();
	private resuming = false;
	private readonly disk: Disk;
	/** What pi's own tools have returned in the run under way, by pi's id of the call. */
	private readonly results = new Map<string, Answer>();
	private outcomes: Outcome[] = [];
	private systemPrompt = "";
	private scanned = 0;
	private upto: number | undefined;
	private resumed = false;
	private tellCaughtUp = (): void => {};
	private readonly hasCaughtUp = new Promise<void>((resolve) => (this.tellCaughtUp = resolve));
	private ready = false;
	private welcomed = false;

	private phase: "idle" | "running" | "settling" = "idle";
	private runSeqs: number[] = [];
	private lastAssistant: Message | undefined;
	private quietUntil = 0;
	private retries = 0;
	private readonly compacting = new Compaction();
	/** Why pi's last compaction failed, if it did and says so. */
	private compactionError: string | undefined;
	private inFlight: (Marker & { at: number }) | undefined;
	private problem = "";
	/** The models that pi's list of models was searched for, and that are not in it. */
	private readonly lookedUp = new Set<string>();
	/** A run ended since its conversation could not be written down: it goes on when that can be done again. */
	private stalled = false;
	/** The run that the model failed in, and that the other end has not decided about: its name. */
	private failed: string | undefined;
	private failures = 0;
	private notStarted = 0;
	private abortStart = false;
	private aborting = false;
	/** A person has pressed escape while pi was about to try again; it then stops, and says so to no extension. */
	private escaped = false;
	/** The run does not want pi to work now. */
	private paused = false;
	/** The abort under way is a pause's: the run that it ends is not over. */
	private pausing = false;
	/** What is to be told once an abort that was not ours has turned out to be somebody's wish; by pi's id of the call. */
	private readonly undecided: { toolCallId: string; tell: () => void }[] = [];
	private closed = false;

	constructor(
		private readonly pi: ExtensionAPI,
		private ctx: ExtensionContext,
		private readonly identity: { agent: string; launch: string; instance: number; piVersion: string },
		private readonly host: Host,
	) {
		this.tools = new Tools(
			pi,
			this.life(),
			(kind, data) => this.report(kind, data),
			(toolCallId, tell) => this.callAborted(toolCallId, tell),
		);
		const kept: Kept = {
			getSessionFile: () => this.ctx.sessionManager.getSessionFile(),
			getHeader: () => this.ctx.sessionManager.getHeader(),
			getEntries: () => this.ctx.sessionManager.getEntries(),
		};
		this.disk = new Disk(
			kept,
			(kind, data) => this.report(kind, data),
			() => this.hasRoom(),
		);
		this.arrivals();
		const branch = this.branch();
		this.outcomes = outcomesIn(branch);
		this.runSeqs = [];
		const left = unsettled(branch);
		if (left) {
			this.runSeqs = left.seqs;
			this.lastAssistant = left.last;
		} else {
			// The kill may have come between the record of the last run and its report. Told again, it does no harm.
			const settled = lastSettled(branch);
			if (settled) this.reportRun(settled.seqs, settled.last);
		}
	}

	/** What no other instance, of this pi or another, has as its name. */
	private life(): string {
		return `${this.identity.launch}.${this.identity.instance}`;
	}

	// ---- the wire -------------------------------------------------------------------------------------------------

	hello(): Frame {
		this.arrivals();
		const delivered = this.delivered.all();
		return {
			type: "hello",
			protocol: PROTOCOL,
			launch: this.identity.launch,
			instance: this.identity.instance,
			agent: this.identity.agent,
			pi: this.identity.piVersion,
			node: process.version,
			pid: process.pid,
			session_file: this.ctx.sessionManager.getSessionFile() ?? null,
			model: modelName(this.ctx) ?? null,
			state: this.phase === "idle" && !this.resuming && this.failed === undefined && !this.goesOn() ? "idle" : "busy",
			applied: this.inbox.applied,
			delivered: delivered.map(({ seq }) => seq),
			marks: delivered.map(({ mark }) => mark),
			calls: this.tools.pending(),
		};
	}

	frame(frame: Frame): void {
		switch (frame.type) {
			case "welcome":
				this.reports.acknowledged(frame.reports as number);
				this.upto ??= frame.upto as number;
				for (const report of this.reports.after(0)) this.host.send({ type: "report", ...report });
				this.welcomed = true;
				// The first one may have been lost with its connection, and the run waits for it.
				if (this.resumed) this.host.send({ type: "ack", applied: this.inbox.applied });
				this.caughtUp();
				break;
			case "entry":
				this.entry(frame.prev as number, frame.entry as Entry);
				break;
			case "reports_ack":
				this.reports.acknowledged(frame.n as number);
				break;
			case "resend":
				for (const report of this.reports.after(frame.after as number)) this.host.send({ type: "report", ...report });
				break;
			case "tool_result":
				this.tools.answered(frame.call_id as string, {
					ok: frame.ok as boolean,
					text: frame.text as string,
					images: imagesIn(frame.images),
				});
				break;
			case "shutdown":
				this.host.end(frame.reason as string, 0);
				break;
		}
	}

	private report(kind: string, data: Record<string, unknown>): void {
		const fit = fitted(kind, data);
		const report = this.reports.add(fit.kind, fit.data);
		// Before the first welcome nothing is sent: the welcome says what the run has, and the rest follows it.
		if (this.welcomed) this.host.send({ type: "report", ...report });
	}

	private entry(prev: number, entry: Entry): void {
		const verdict = this.inbox.judge(prev, entry.seq);
		if (verdict === "gap") {
			this.host.send({ type: "resend", after: this.inbox.applied });
			return;
		}
		if (verdict === "apply") {
			this.inbox.applied = entry.seq;
			try {
				this.apply(entry);
			} catch (error) {
				// pi refused it (a tool's name, say). Sent again it would be refused again.
				this.report("problem", { code: "entry", message: `${entry.type}: ${error instanceof Error ? error.message : error}`, seq: entry.seq });
			}
		}
		this.host.send({ type: "ack", applied: this.inbox.applied });
		this.caughtUp();
	}

	private apply(entry: Entry): void {
		const data = entry.data;
		switch (entry.type) {
			case "message": {
				const marker = { seq: entry.seq, mark: String(data.mark) };
				if (this.delivered.has(marker)) break;
				const how = HOWS.find((one) => one === data.how) ?? "steer";
				this.outbox.push({ ...marker, text: String(data.text), how });
				if (how === "interrupt") this.interrupt();
				this.pump();
				break;
			}
			case "tool":
				this.tools.define(String(data.name), String(data.description ?? ""), data.parameters as object);
				break;
			case "tool_removed":
				this.tools.remove(String(data.name));
				break;
			case "system_prompt":
				this.systemPrompt = String(data.text ?? "");
				break;
			case "interrupt":
				this.interrupt();
				break;
			case "pause":
				if (data.paused === true) this.pause();
				else this.unpause();
				break;
			case "retry":
				// One about a run that goes on already, or is over, comes too late.
				if (data.run !== this.failed || this.failed === undefined) break;
				if (data.retry !== true) this.giveUp();
				else if (!this.paused) void this.resume(); // else it goes on after the pause
				break;
		}
	}

	private interrupt(): void {
		if (!this.ready) this.goingOn.abort();
		if (this.ready || this.phase !== "idle") {
			this.pausing = false;
			this.stopRun();
		} else if ((this.paused || this.failed !== undefined) && this.resumed) {
			void this.resume(); // what was held up ends now, and not when the pause does
		}
	}

	/** pi stops at once, but what it was doing is not over: the handlers of its calls go on, and it does when it may. */
	private pause(): void {
		this.paused = true;
		if (!this.ready && this.phase === "idle") return; // whatever is to go on waits for the end of the pause
		this.pausing = this.phase !== "idle" || this.inFlight !== undefined;
		this.stopRun();
	}

	private unpause(): void {
		this.paused = false;
		if (!this.resumed) return;
		if (this.phase !== "idle" || this.inFlight) {
			// What the pause has stopped has not come to its end, or a person has pi work.
			this.ready ||= !this.resuming;
			this.pump();
			return;
		}
		this.pausing = false;
		void this.resume();
	}

	private stopRun(): void {
		this.quietUntil = Math.min(this.quietUntil, now() + 200);
		if (this.phase !== "idle") this.abort();
		// Sent, and not begun: there is nothing to abort yet.
		else if (this.inFlight) this.abortStart = true;
	}

	private abort(): void {
		// Until it has settled, a message would be taken into the run that dies.
		this.aborting = true;
		this.ctx.abort();
	}

	private callAborted(toolCallId: string, tell: () => void): void {
		if (!this.pausing && (this.aborting || this.goingOn.signal.aborted)) {
			tell();
			return;
		}
		this.undecided.push({ toolCallId, tell });
		if (!this.pausing) setTimeout(() => this.decide(), ABORT_MEANS);
	}

	/** The aborts so far were wanted. */
	private decide(): void {
		if (this.closed || this.pausing) return;
		for (const { tell } of this.undecided.splice(0)) tell();
	}

	/** This instance is over; pi refuses what belongs to a session that it has left. `quits`: pi ends. */
	close(quits: boolean): void {
		this.compacting.end();
		// A person who leaves for another session has ended what went on here.
		if (!quits && (this.phase === "settling" || this.failed !== undefined)) this.settle(true);
		this.closed = true;
		this.disk.close();
	}

	// ---- going on after a restart -----------------------------------------------------------------------------------

	/** Waits, so many milliseconds at most, until what the run has for us is applied. */
	async caughtUpWithin(milliseconds: number): Promise<void> {
		let timer: NodeJS.Timeout | undefined;
		const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
		await Promise.race([this.hasCaughtUp, late]);
		clearTimeout(timer);
	}

	/** Once, when what the run had for us at the first welcome is applied: settle what a killed pi left behind. */
	private caughtUp(): void {
		if (this.resumed || this.upto === undefined || this.inbox.applied < this.upto) return;
		this.resumed = true;
		// Said also where there was nothing to apply: the agent is ready.
		this.host.send({ type: "ack", applied: this.inbox.applied });
		this.tellCaughtUp();
		setTimeout(() => {
			if (!this.closed) void this.resume();
		}); // what it has pi do comes after pi's own start
	}

	/** Whether there is something to go on with that an earlier life has left, before that begins. */
	private goesOn(): boolean {
		return !this.resumed && (openCalls(this.branch()).length > 0 || unsettled(this.branch())?.waiting === true);
	}

	private async resume(): Promise<void> {
		if (this.resuming) return;
		if (this.disk.full) {
			this.stalled = true;
			return;
		}
		this.resuming = true;
		this.ready = false;
		const retrying = this.failed !== undefined;
		this.failed = undefined;
		const left = unsettled(this.branch());
		const open = openCalls(this.branch());
		const busy = open.length > 0 || left?.waiting === true;
		if (busy) this.report("state", { state: "busy" });
		await Promise.all(
			open.map(async (call) => {
				const outcome = await this.tools.adopt(call, this.goingOn.signal, this.results.get(call.toolCallId));
				if (this.closed) return;
				this.outcomes.push(outcome);
				this.record(CALL_ENTRY, outcome);
			}),
		);
		this.resuming = false;
		if (this.closed) return;
		const interrupted = this.goingOn.signal.aborted;
		if (left?.waiting && this.paused && !interrupted) {
			this.report("state", { state: "idle" });
			return;
		}
		this.goingOn = new AbortController();
		this.ready = true;
		this.lastAssistant ??= left?.last;
		if (left && (!left.waiting || interrupted)) {
			this.aborting = left.waiting;
			this.settle(true);
		} else if (left) {
			for (const note of this.outbox) if (note.how === "note") note.how = "steer";
			// A message that is due prompts pi as well as a nudge does, and shows nothing odd on the screen. One that waits for
			// the end of a run is not due while that is tried again.
			if (this.outbox.length === 0 || (retrying && this.outbox[0].how === "queue")) {
				this.pi.sendUserMessage(NUDGE, { deliverAs: "steer" });
				return; // a second message before pi has begun would be lost
			}
		} else if (busy) {
			this.report("state", { state: "idle" });
		}
		this.pump();
	}

	// ---- delivery ---------------------------------------------------------------------------------------------------

	private branch(): SessionEntry[] {
		return this.ctx.sessionManager.getBranch() as unknown as SessionEntry[];
	}

	/** The log's messages that have come into the session since the last look. */
	private arrivals(): Marker[] {
		const entries = this.ctx.sessionManager.getEntries() as unknown as SessionEntry[];
		const found: Marker[] = [];
		for (; this.scanned < entries.length; this.scanned++) {
			const marker = markerOf(entries[this.scanned].message);
			if (marker && this.delivered.add(marker)) found.push(marker);
		}
		if (this.inFlight && this.delivered.has(this.inFlight)) this.inFlight = undefined;
		this.runSeqs.push(...found.map(({ seq }) => seq));
		return found;
	}

	private scan(): void {
		const found = this.arrivals();
		if (found.length === 0) return;
		this.host.send({ type: "delivered", seqs: found.map(({ seq }) => seq), marks: found.map(({ mark }) => mark) });
		this.pump();
	}

	/** Sends the next message when it is its turn: one in flight, in the log's order, never between runs. */
	private pump(): void {
		if (!this.ready || this.paused || this.closed || this.disk.full) return;
		while (this.outbox.length > 0 && this.delivered.has(this.outbox[0])) this.outbox.shift();
		const next = this.outbox[0];
		if (!next || this.inFlight || this.aborting || this.phase === "settling") return;
		if (this.phase === "running" && next.how === "queue") return;
		if (this.phase === "idle" && this.outbox.every(({ how }) => how === "note")) return;
		if (this.phase === "idle" && !this.usableModel()) return;
		this.inFlight = { seq: next.seq, mark: next.mark, at: now() };
		this.pi.sendUserMessage(marked(next, next.text), { deliverAs: "steer" });
	}

	/** False, and reported once, while pi has no model that it could ask. */
	private usableModel(): boolean {
		const model = modelName(this.ctx);
		const registry = this.ctx.modelRegistry as { hasConfiguredAuth?(model: unknown): boolean };
		if (!model) {
			this.trouble("no_model", "pi has no model: pass model=, set defaultProvider and defaultModel in pi's settings.json, or log in with pi's /login");
			return false;
		}
		if (registry.hasConfiguredAuth && !registry.hasConfiguredAuth(this.ctx.model)) {
			this.trouble("no_model", `pi has no key for ${model}: set its provider's key in the environment, or log in with pi's /login`);
			return false;
		}
		this.lookUp(model);
		return true;
	}

	/** Reported once for each model: pi asks one that it does not know all the same, and the provider may answer 404. */
	private lookUp(model: string): void {
		const registry = this.ctx.modelRegistry as Partial<ExtensionContext["modelRegistry"]>;
		const { provider, id } = this.ctx.model as { provider: string; id: string };
		if (this.lookedUp.has(model) || registry.find?.(provider, id)) return;
		this.lookedUp.add(model);
		const known = (registry.getAll?.() ?? []).filter((one) => one.provider === provider).map((one) => one.id);
		if (known.length === 0) return;
		this.report("problem", { code: "unknown_model", message: `pi does not know the model ${model}`, seq: null, model, near: nearest(id, known) });
	}

	private trouble(code: string, message: string, more: Record<string, unknown> = {}): void {
		if (this.problem === code) return;
		this.problem = code;
		this.report("problem", { code, message, seq: this.outbox[0]?.seq ?? null, ...more });
	}

	/** A message that was sent, and neither started pi nor came into the session: sent again, or flushed out of its queue. */
	private unstick(time: number): void {
		if (!this.inFlight || this.phase !== "idle" || this.failed !== undefined || this.compacting.running() || !this.ctx.isIdle()) return;
		if (time - this.inFlight.at < 300) return;
		if (this.ctx.hasPendingMessages()) {
			// An abort, or the end of a run, left it in pi's queue, which only a prompt empties.
			this.inFlight.at = time + START_LIMIT;
			this.pi.sendUserMessage(NUDGE, { deliverAs: "steer" });
		} else if (time - this.inFlight.at > START_LIMIT) {
			this.notStarted++;
			if (this.notStarted === STARTS) this.problem = "";
			this.trouble("not_started", "pi took a message and did not begin to work; its screen may say why", {
				given_up: this.notStarted >= STARTS,
			});
			this.inFlight = undefined;
			this.pump();
		}
	}

	// ---- pi's events --------------------------------------------------------------------------------------------------

	/** Called with every event of pi's, and every 100 ms. */
	tick(ctx?: ExtensionContext): void {
		if (this.closed) return;
		if (ctx) this.ctx = ctx;
		const time = now();
		this.disk.look();
		this.scan();
		if (this.phase === "settling" && time >= this.quietUntil && !this.compacting.running() && this.ctx.isIdle()) this.settle();
		// Where even the last words of a run found no room, some versions of pi do not say that it has ended.
		if (this.phase === "running" && this.unwritten() && this.ctx.isIdle()) this.settle();
		this.unstick(time);
		if (this.problem === "no_model") this.pump();
	}

	/** There is room again: what the full disk has stopped goes on. */
	private hasRoom(): void {
		if (this.stalled) {
			this.stalled = false;
			void this.resume();
		} else this.pump();
	}

	/** Whether the run ended since its conversation could not be written down. */
	private unwritten(): boolean {
		return this.lastAssistant?.stopReason === "error" && FULL.test(this.lastAssistant.errorMessage ?? "");
	}

	/** Puts an entry of ours into the session. One that a full disk keeps out is made up for: it is derived from the others. */
	private record(type: string, data: object): void {
		try {
			this.pi.appendEntry(type, data);
		} catch (error) {
			this.disk.refused(String(error));
		}
	}

	/** pi is about to ask the model: not before what led to that is written down. */
	async beforeRequest(signal: AbortSignal | undefined): Promise<void> {
		this.disk.look();
		await this.disk.room(signal);
	}

	agentStart(): void {
		if (this.abortStart) setTimeout(() => this.abort(), 0);
		this.abortStart = false;
		this.quietUntil = 0;
		this.problem = "";
		this.notStarted = 0;
		this.escaped = false;
		this.compactionError = this.compacting.failure = undefined;
		if (this.failed !== undefined) {
			// A person has pi work: the run that failed goes on with that.
			this.failed = undefined;
			this.ready = true;
		}
		if (this.phase === "idle") this.report("state", { state: "busy" });
		this.phase = "running";
	}

	/** A person has pressed escape at pi's screen. */
	escape(): void {
		if (this.phase !== "settling" || this.lastAssistant?.stopReason !== "error") return;
		this.escaped = true;
		this.quietUntil = Math.min(this.quietUntil, now() + 200);
	}

	agentEnd(): void {
		this.phase = "settling";
		const last = this.lastAssistant;
		this.quietUntil = now() + (this.abortUnexplained() ? ABORT_MEANS : 20);
		if (last?.stopReason === "error" && RETRIED.test(last.errorMessage ?? "") && this.retries < RETRY_PAUSES.length) {
			this.quietUntil = now() + RETRY_PAUSES[this.retries++] + 1500;
		}
		setTimeout(() => this.tick(), 25);
	}

	private abortUnexplained(): boolean {
		return !this.aborting && (this.lastAssistant?.stopReason === "aborted" || this.undecided.length > 0);
	}

	/** pi says that the run has settled. */
	settled(): void {
		if (!this.abortUnexplained() || now() >= this.quietUntil) this.settle();
	}

	/** The run is over for good: recorded in the session, then reported (by the next launch, if we are killed between). */
	settle(left = false): void {
		// pi may say that it settled after we have seen so ourselves.
		if (!left && this.phase === "idle" && this.runSeqs.length === 0 && !this.lastAssistant) return;
		if (!left && this.failed !== undefined) return;
		this.phase = "idle";
		this.retries = 0;
		this.scan();
		this.aborting ||= this.escaped;
		this.escaped = false;
		const cut = this.aborting && unsettled(this.branch())?.waiting === true;
		if (this.pausing && cut) {
			this.holdUp();
			return;
		}
		this.pausing = this.aborting = false;
		this.decide();
		if (!cut && this.unwritten()) {
			this.lastAssistant = this.inFlight = undefined;
			this.ready = false;
			this.stalled = true;
			if (!this.disk.full) this.hasRoom();
			return;
		}
		if (!left && !cut && this.lastAssistant?.stopReason === "error") {
			this.fail(this.lastAssistant);
			return;
		}
		// A provider can make an error of our abort, and pi passes that on.
		const last = cut ? { role: "assistant", ...this.lastAssistant, stopReason: "aborted" } : this.lastAssistant;
		const seqs = this.runSeqs;
		this.runSeqs = [];
		this.lastAssistant = undefined;
		this.results.clear();
		this.record(RUN_ENTRY, { seqs });
		this.reportRun(seqs, last);
		this.report("state", { state: "idle" });
		if (last?.stopReason === "aborted") this.reclaim();
		// Not from within pi's own event: on some versions a prompt from there is queued until the next one.
		setTimeout(() => this.pump(), 0);
	}

	/** A run that a pause has ended: as one that a killed pi left, it is gone on with, after the pause. */
	private holdUp(): void {
		this.undecided.length = 0; // those calls are asked for again
		this.lastAssistant = undefined;
		this.aborting = this.pausing = this.ready = false;
		this.report("state", { state: "idle" });
		this.reclaim();
		if (!this.paused) void this.resume();
	}

	/** The model has failed, and pi has given up: whether the run goes on is for the other end to say. Meanwhile nothing begins. */
	private fail(last: Message): void {
		this.ready = false;
		this.failed = `${this.life()}/${++this.failures}`;
		this.report("run_failed", { run: this.failed, ...this.outcome(this.runSeqs, last), model: modelName(this.ctx) ?? null, compaction: this.compactionError ?? this.compacting.failure ?? null });
		this.reclaim();
	}

	/** The run that failed is over. */
	private giveUp(): void {
		this.failed = undefined;
		this.ready = true;
		this.settle(true);
	}

	/** An abort can put a message that was queued in pi back into its editor, as if typed: it is ours to send again. */
	private reclaim(): void {
		if (!this.inFlight || this.ctx.hasPendingMessages()) return;
		const typed = this.ctx.ui.getEditorText();
		const text = this.outbox[0] ? marked(this.outbox[0], this.outbox[0].text) : "";
		if (text && typed.includes(text)) this.ctx.ui.setEditorText(typed.replace(text, "").trim());
		this.inFlight = undefined;
	}

	private reportRun(seqs: number[], last: Message | undefined): void {
		this.report("run_end", this.outcome(seqs, last));
	}

	private outcome(seqs: number[], last: Message | undefined): Record<string, unknown> {
		return {
			seqs: [...seqs],
			text: textOf(last),
			stop_reason: last?.stopReason ?? null,
			error: last?.stopReason === "error" ? (last.errorMessage ?? "the model failed without a message") : null,
		};
	}

	compaction(running: boolean, error?: string): void {
		this.compactionError = error;
		if (running) {
			this.compacting.start();
			return;
		}
		this.compacting.end();
		this.compacting.failure = undefined;
		if (error === undefined && this.phase === "settling") {
			this.quietUntil = now() + (this.lastAssistant?.stopReason === "error" ? GOES_ON.failed : GOES_ON.other);
		}
	}

	messageEnd(message: Message): void {
		if (message.role === "assistant") {
			this.lastAssistant = message;
			if (this.unwritten()) this.disk.refused(message.errorMessage ?? ""); // before pi writes this down
			if (message.stopReason !== "error") this.retries = 0;
			this.report("assistant", {
				text: textOf(message),
				tool_calls: callsOf(message).map(({ id, name }) => ({ id, name })),
				stop_reason: message.stopReason ?? null,
				error: message.errorMessage ?? null,
				model: message.model ?? null,
				provider: message.provider ?? null,
				usage: message.usage ?? null,
			});
		} else if (message.role === "user") {
			// A nudge is ours: it must not look as if a person had typed it.
			if (!isNudge(message)) this.report("user", { seq: seqOf(message) ?? null, text: textOf(message) });
			// The entry is written after this event.
			setTimeout(() => this.tick(), 0);
		}
	}

	toolEvent(kind: "tool_start" | "tool_end", data: Record<string, unknown>, text = ""): void {
		const tell = (): void => this.report(kind, data);
		const toolCallId = String(data.tool_call_id);
		if (kind === "tool_end") this.results.set(toolCallId, { ok: data.ok === true, text });
		if (kind === "tool_end" && this.undecided.some((one) => one.toolCallId === toolCallId)) this.undecided.push({ toolCallId, tell });
		else tell();
	}

	request(messages: Message[]): Message[] {
		return forRequest(messages, this.outcomes);
	}

	/** pi begins a run: what it appends to its system prompt. */
	prompt(base: string): string | undefined {
		// Other extensions may now take their time before the run starts; the message is not lost meanwhile.
		if (this.inFlight) this.inFlight.at = now() + SLOW_START;
		return this.systemPrompt ? `${base}\n\n${this.systemPrompt}` : undefined;
	}
}
