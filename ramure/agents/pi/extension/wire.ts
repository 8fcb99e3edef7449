// The frames between run and extension (docs/protocol.md), and the two pure rules of the replicated log's far end:
// entries are applied strictly in order, and what we report is kept until the run has it. No I/O here.

export const PROTOCOL = 1;
export const SUBPROTOCOL = "ramure.v1";
export const TOKEN_PREFIX = "ramure.token.";
export const MAX_FRAME = 16 * 1024 * 1024;

/** Close codes of the gateway that are final: reconnecting would not help. */
export const CLOSE_REFUSED = 4401;
export const CLOSE_REPLACED = 4409;

export type Frame = { type: string; [key: string]: unknown };

export interface Entry {
	seq: number;
	ts: number;
	type: string;
	data: Record<string, unknown>;
	origin: string;
}

/** Reads a frame; a text saying what is wrong with it when it is none. */
export function parseFrame(text: string): Frame | string {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return "not JSON";
	}
	if (typeof value !== "object" || value === null || Array.isArray(value)) return "not an object";
	const type = (value as Frame).type;
	return typeof type === "string" ? (value as Frame) : "no type";
}

const whole = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const text = (value: unknown): boolean => typeof value === "string";
const object = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const entry = (value: unknown): boolean => {
	const { seq, type, data } = (value ?? {}) as Partial<Entry>;
	return whole(seq) && text(type) && object(data);
};

/** The frames that a run sends, with the fields that we rely on. */
const FROM_RUN: Record<string, Record<string, (value: unknown) => boolean>> = {
	welcome: { reports: whole, upto: whole },
	entry: { prev: whole, entry },
	reports_ack: { n: whole },
	resend: { after: whole },
	tool_result: { call_id: text, ok: (value) => typeof value === "boolean", text },
	shutdown: { reason: text },
	ping: {},
	pong: {},
	error: {},
};

/** What is wrong with a frame from the run; undefined when it is sound. */
export function misfit(frame: Frame): { code: string; message: string } | undefined {
	if (!Object.hasOwn(FROM_RUN, frame.type)) return { code: "type", message: `unknown frame type ${frame.type}` };
	for (const [name, sound] of Object.entries(FROM_RUN[frame.type])) {
		if (!sound(frame[name])) return { code: "field", message: `${frame.type} frame: ${name} is missing or of another kind` };
	}
	return undefined;
}

/** The order rule: `prev` is the seq of the entry sent before this one. */
export class Inbox {
	applied = 0;

	judge(prev: number, seq: number): "apply" | "duplicate" | "gap" {
		if (seq <= this.applied) return "duplicate";
		return prev > this.applied ? "gap" : "apply";
	}
}

export interface Report {
	n: number;
	kind: string;
	data: Record<string, unknown>;
}

/** What the data of a report may be, so that its frame is one that the run reads: bytes of JSON, values, levels of nesting. */
export interface Limits {
	bytes: number;
	values: number;
	depth: number;
	/** UTF-16 units of each text that is left where a report is cut. */
	text: number;
}

const LIMITS: Limits = { bytes: MAX_FRAME - 1024, values: 249_000, depth: 98, text: 512 * 1024 };

/** By what a report's data is over the limits; undefined when it is not. */
export function excess(data: Record<string, unknown>, limits = LIMITS): string | undefined {
	let values = 0;
	const deep = (value: unknown, depth: number): boolean => {
		if (typeof value !== "object" || value === null) return false;
		const inner = Object.values(value);
		values += Math.max(1, inner.length);
		return depth > limits.depth || inner.some((one) => deep(one, depth + 1));
	};
	if (deep(data, 1)) return `more than ${limits.depth} levels of nesting`;
	if (values > limits.values) return `more than ${limits.values} values`;
	const bytes = Buffer.byteLength(JSON.stringify(data));
	return bytes > limits.bytes ? `${bytes} bytes, and ${limits.bytes} is the limit` : undefined;
}

/** A report that the run can read: what is over the limits is cut, and says so. One that never arrives would hold up all after it. */
export function fitted(kind: string, data: Record<string, unknown>, limits = LIMITS): { kind: string; data: Record<string, unknown> } {
	const reason = excess(data, limits);
	if (reason === undefined) return { kind, data };
	const cut: Record<string, unknown> = {};
	for (const [name, value] of Object.entries(data)) {
		if (typeof value === "string" && value.length > limits.text) {
			cut[name] = `${value.slice(0, limits.text)}… (${value.length - limits.text} characters left out)`;
		} else {
			cut[name] = name === "arguments" ? { left_out: reason } : value;
		}
	}
	if (excess(cut, limits) === undefined) return { kind, data: cut };
	return { kind: "problem", data: { code: "too_large", message: `a ${kind} report is left out: ${reason}`, seq: null } };
}

/** What we report, numbered 1, 2, 3 …, kept until the run says that it has it. */
export class Reports {
	private last = 0;
	private kept: Report[] = [];

	add(kind: string, data: Record<string, unknown>): Report {
		const report = { n: ++this.last, kind, data };
		this.kept.push(report);
		return report;
	}

	acknowledged(n: number): void {
		this.kept = this.kept.filter((report) => report.n > n);
	}

	after(n: number): Report[] {
		return this.kept.filter((report) => report.n > n);
	}
}
