// Whether pi's compaction is under way. pi 0.74 says when one begins and when it has succeeded, but not when it has failed:
// so while one is under way, the requests of this process are followed, as Node reports them (undici's diagnostics channels).

import { subscribe, unsubscribe } from "node:diagnostics_channel";

/** Milliseconds at most, where no request is seen at all: other clients than undici are not reported. */
const LIMIT = 180_000;
/** Milliseconds without a request after which it has failed. Clients wait up to 8 s before they ask again by themselves. */
const QUIET = 15_000;
/** Milliseconds at most that a client waits if the provider asks for it. */
const LONGEST_WAIT = 60_000;

interface Message {
	request: { upgrade?: unknown };
	response?: { statusCode?: number; statusText?: string; headers?: unknown[] };
	error?: { name?: string; message?: string };
}

const now = (): number => performance.now();

export class Compaction {
	/** Why the last request failed, if it did: where a compaction ends without a word, this is why. */
	failure: string | undefined;
	private began: number | undefined;
	private readonly open = new Set<object>();
	/** What each answer asks to wait. */
	private readonly waits = new WeakMap<object, number>();
	/** When the last request ended, and how long after it the next may begin. */
	private quiet: { since: number; wait: number } | undefined;
	private readonly channels: [string, (message: unknown) => void][] = [
		["undici:request:create", (message) => this.begins(message as Message)],
		["undici:request:headers", (message) => this.answered(message as Message)],
		["undici:request:trailers", (message) => this.ends(message as Message)],
		["undici:request:error", (message) => this.ends(message as Message)],
	];

	start(): void {
		this.end();
		this.failure = undefined;
		this.began = now();
		for (const [name, heard] of this.channels) subscribe(name, heard);
	}

	end(): void {
		if (this.began === undefined) return;
		this.began = this.quiet = undefined;
		this.open.clear();
		for (const [name, heard] of this.channels) unsubscribe(name, heard);
	}

	/** False also where it has failed without a word. */
	running(): boolean {
		if (this.began === undefined) return false;
		const over = now() - this.began > LIMIT || (this.quiet !== undefined && now() - this.quiet.since > this.quiet.wait);
		if (over) this.end();
		return !over;
	}

	private begins({ request }: Message): void {
		if (request.upgrade) return; // a WebSocket stays open
		this.open.add(request);
		this.quiet = undefined;
	}

	private answered({ request, response }: Message): void {
		if (!this.open.has(request)) return;
		const wait = retryAfter(response?.headers ?? []);
		this.waits.set(request, wait);
		this.failure = problemOf(response?.statusCode ?? 200, response?.statusText ?? "", wait);
	}

	private ends({ request, error }: Message): void {
		if (!this.open.delete(request)) return;
		// One that a person or a client has ended says nothing of the provider.
		if (error) this.failure = /abort/i.test(`${error.name} ${error.message}`) ? undefined : `connection error: ${error.message}`;
		if (this.open.size > 0) return;
		this.quiet = { since: now(), wait: QUIET + (this.waits.get(request) ?? 0) };
	}
}

/** What an answer says of a request that has failed. */
function problemOf(status: number, text: string, wait: number): string | undefined {
	return status < 400 ? undefined : `HTTP ${status} ${text}`.trim() + (wait > 0 ? `, retry-after: ${wait / 1000}` : "");
}

/** The milliseconds that an answer asks to wait: its headers are names and values in turn. */
function retryAfter(headers: unknown[]): number {
	const at = headers.findIndex((name, i) => i % 2 === 0 && String(name).toLowerCase() === "retry-after");
	const seconds = at < 0 ? Number.NaN : Number(String(headers[at + 1]));
	return seconds > 0 ? Math.min(seconds * 1000, LONGEST_WAIT) : 0;
}
