// What pi's session says: which log messages are in the conversation, what a killed pi left unanswered. Pure: it reads
// entries as they are in the session file (docs of pi: session-format.md) and keeps no state.

export interface Block {
	type: string;
	text?: string;
	id?: string;
	name?: string;
	arguments?: Record<string, unknown>;
}

export interface Message {
	role: string;
	content?: string | Block[];
	timestamp?: number;
	stopReason?: string;
	errorMessage?: string;
	toolCallId?: string;
	isError?: boolean;
	[key: string]: unknown;
}

export interface SessionEntry {
	type: string;
	id: string;
	message?: Message;
	customType?: string;
	data?: unknown;
}

/** Custom entries that we write into the session: a run that settled; the true outcome of a call a killed pi left. */
export const RUN_ENTRY = "ramure-run";
export const CALL_ENTRY = "ramure-call";

/** What a call of the run's is answered with at once when pi aborts it. */
export const CANCELLED = "The call was cancelled.";

/** How a message of the log is recognised in the conversation: `[ramure 12 k3f7x2ab] text`. */
const MARKER = /^\[ramure (\d{1,15})(?: ([a-z2-7]{8}))?\] /;
export const NUDGE = "[ramure continue] Go on from where you were interrupted.";

/** A message of the log in the conversation: the run alone can tell whether the mark is the one that it gave the seq. */
export interface Marker {
	seq: number;
	/** Empty for a message that has none. */
	mark: string;
}

export function marked({ seq, mark }: Marker, text: string): string {
	return `[ramure ${seq} ${mark}] ${text}`;
}

/** The text without a marker that we did not set. */
export function unmark(text: string): string {
	return text.replace(/^(\[ramure (\d+( [a-z2-7]{8})?|continue)\] ?)+/, "");
}

export function textOf(message: Message | undefined): string {
	const content = message?.content;
	if (typeof content === "string") return content;
	if (!Array.isArray(content)) return "";
	return content
		.filter((block) => block.type === "text")
		.map((block) => block.text ?? "")
		.join("");
}

/** The marker of a user message, or undefined when it is no message of the log. */
export function markerOf(message: Message | undefined): Marker | undefined {
	if (message?.role !== "user") return undefined;
	const found = MARKER.exec(textOf(message));
	return found ? { seq: Number(found[1]), mark: found[2] ?? "" } : undefined;
}

/** The log's seq of a user message, or undefined when it is no message of the log. */
export function seqOf(message: Message | undefined): number | undefined {
	return markerOf(message)?.seq;
}

/** Markers in the order in which they came, each once. */
export class Markers {
	private readonly known = new Map<string, Marker>();

	has({ seq, mark }: Marker): boolean {
		return this.known.has(`${seq} ${mark}`);
	}

	/** False if it was there. */
	add(marker: Marker): boolean {
		if (this.has(marker)) return false;
		this.known.set(`${marker.seq} ${marker.mark}`, marker);
		return true;
	}

	all(): Marker[] {
		return [...this.known.values()];
	}
}

export function isNudge(message: Message): boolean {
	return message.role === "user" && textOf(message).startsWith("[ramure continue]");
}

/** pi leaves replies that failed or were aborted out of its requests, with their calls. */
function isLeftOut(message: Message): boolean {
	return message.role === "assistant" && (message.stopReason === "error" || message.stopReason === "aborted");
}

export function callsOf(message: Message | undefined): Block[] {
	if (message?.role !== "assistant" || !Array.isArray(message.content) || isLeftOut(message)) return [];
	return message.content.filter((block) => block.type === "toolCall");
}

/** A call's name for the run: the same after a restart, and distinct even where a model server reuses its ids. */
export function callKey(entries: readonly SessionEntry[], toolCallId: string, launch: string): string {
	for (let i = entries.length - 1; i >= 0; i--) {
		if (callsOf(entries[i].message).some((call) => call.id === toolCallId)) return `${entries[i].id}/${toolCallId}`;
	}
	return `${launch}/${toolCallId}`;
}

/** Whether the message only says that a call was aborted, and not what it came to. */
function isCancelled(message: Message | undefined): boolean {
	return message?.role === "toolResult" && message.isError === true && textOf(message) === CANCELLED;
}

/** Where the entries begin that no settled run accounts for. */
function unsettledFrom(branch: readonly SessionEntry[]): number {
	let start = branch.length;
	while (start > 0 && branch[start - 1].customType !== RUN_ENTRY) start--;
	return start;
}

export interface OpenCall {
	key: string;
	toolCallId: string;
	name: string;
	arguments: Record<string, unknown>;
	/** The assistant message's timestamp: with the id it names the call among the messages of a request. */
	timestamp: number;
}

export interface Outcome {
	timestamp: number;
	toolCallId: string;
	ok: boolean;
	text: string;
}

export function outcomesIn(branch: readonly SessionEntry[]): Outcome[] {
	return branch.filter((entry) => entry.type === "custom" && entry.customType === CALL_ENTRY).map((entry) => entry.data as Outcome);
}

/**
 * Calls on the branch that have neither a result nor a recorded outcome. One that was aborted in a run which never settled is
 * open: pi was ended, and nobody wanted the call to be.
 */
export function openCalls(branch: readonly SessionEntry[]): OpenCall[] {
	const open = new Map<string, OpenCall>();
	const from = unsettledFrom(branch);
	for (const [index, { id, message }] of branch.entries()) {
		for (const call of callsOf(message)) {
			const toolCallId = call.id ?? "";
			open.set(toolCallId, {
				key: `${id}/${toolCallId}`,
				toolCallId,
				name: call.name ?? "",
				arguments: call.arguments ?? {},
				timestamp: message?.timestamp ?? 0,
			});
		}
		if (message?.role === "toolResult" && !(index >= from && isCancelled(message))) open.delete(message.toolCallId ?? "");
	}
	for (const outcome of outcomesIn(branch)) {
		if (open.get(outcome.toolCallId)?.timestamp === outcome.timestamp) open.delete(outcome.toolCallId);
	}
	return [...open.values()];
}

export interface Unsettled {
	/** Messages of the log that the run which did not settle has taken in. */
	seqs: number[];
	/** Its last assistant message, if it got that far. */
	last: Message | undefined;
	/** Whether pi must be prompted to go on. */
	waiting: boolean;
}

/** The last run that is recorded as settled: the messages it took in, and its last assistant message. */
export function lastSettled(branch: readonly SessionEntry[]): { seqs: number[]; last: Message | undefined } | undefined {
	for (let i = branch.length - 1; i >= 0; i--) {
		if (branch[i].customType !== RUN_ENTRY) continue;
		const before = branch.slice(0, i).filter((entry) => entry.message?.role === "assistant");
		return { seqs: (branch[i].data as { seqs: number[] }).seqs, last: before.pop()?.message };
	}
	return undefined;
}

/** What a killed pi left behind the last run that settled; undefined when there is nothing. */
export function unsettled(branch: readonly SessionEntry[]): Unsettled | undefined {
	const messages = branch.slice(unsettledFrom(branch)).flatMap((entry) => (entry.message ? [entry.message] : []));
	const spoken = messages.filter((message) => message.role === "user" || message.role === "assistant" || message.role === "toolResult");
	// The seed of a fresh session is an aborted assistant message that stands on no branch; a branch never begins with one.
	if (!spoken.some((message) => message.role === "user")) return undefined;
	const tail = spoken[spoken.length - 1];
	const last = spoken.filter((message) => message.role === "assistant").pop();
	// An abort that somebody wanted has settled; one that has not was pi's own, when it was ended.
	const answered = tail.role === "assistant" && callsOf(tail).length === 0 && !isLeftOut(tail);
	const seqs = spoken.map(seqOf).filter((seq): seq is number => seq !== undefined);
	return { seqs: [...new Set(seqs)], last, waiting: !answered };
}

/** A call among the messages of a request, where a model server reuses its ids. */
function callName(toolCallId: string | undefined, timestamp: number | undefined): string {
	return `${timestamp ?? 0} ${toolCallId ?? ""}`;
}

/** The messages of a request: nudges and repeated messages left out, true outcomes put in. */
export function forRequest(messages: Message[], outcomes: readonly Outcome[]): Message[] {
	const known = new Map(outcomes.map((one) => [callName(one.toolCallId, one.timestamp), one]));
	const answered = new Set<string>();
	const outdone = new Set<Message>();
	const askedAt = new Map<string, number>();
	for (const message of messages) {
		for (const call of callsOf(message)) askedAt.set(call.id ?? "", message.timestamp ?? 0);
		if (message.role !== "toolResult") continue;
		const name = callName(message.toolCallId, askedAt.get(message.toolCallId ?? ""));
		if (isCancelled(message) && known.has(name)) outdone.add(message);
		else answered.add(name);
	}
	const seen = new Markers();
	const kept: Message[] = [];
	let nudge: Message | undefined;
	for (const message of messages) {
		if (isNudge(message)) {
			nudge = message;
			continue;
		}
		if (outdone.has(message)) continue;
		const marker = markerOf(message);
		if (marker && !seen.add(marker)) continue;
		kept.push(message);
		for (const call of callsOf(message)) {
			const name = callName(call.id, message.timestamp);
			const outcome = known.get(name);
			if (!outcome || answered.has(name)) continue;
			kept.push({
				role: "toolResult",
				toolCallId: call.id,
				toolName: call.name,
				content: [{ type: "text", text: outcome.text }],
				isError: !outcome.ok,
				timestamp: message.timestamp,
			});
		}
	}
	const tail = kept.filter((message) => !isLeftOut(message)).pop();
	// A request that ends with the assistant's own words is refused by some providers: there the nudge must stay.
	if (nudge && (!tail || tail.role === "assistant")) kept.push(nudge);
	return kept;
}
