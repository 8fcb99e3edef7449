// The disk of pi's session file: what is missing in the file is written again, and while there is no room the run hears of
// it and nothing goes on.

import { dirname } from "node:path";
import { FULL, PIECE, PIECES, Reserve } from "./reserve.ts";
import { type Kept, SessionFile } from "./session_file.ts";

/** Milliseconds between two attempts, to find room or to write the file again. */
const PAUSE = 500;
/** Milliseconds within which another alarm means that what pi has to write is larger than the room that there was. */
const AGAIN = 10_000;
/** Bytes of room beyond the reserve that are asked for, at most. */
const MOST = 16 << 20;

export class Disk {
	private readonly file = new SessionFile();
	private path: string | undefined;
	private reserve: Reserve | undefined;
	private notBefore = 0;
	private trouble = "";
	/** Bytes that there must be beyond the reserve: pi does not say what it could not write. */
	private wanted = PIECE;
	private endedAt = Number.NEGATIVE_INFINITY;
	private readonly waiting = new Set<() => void>();
	/** There is no room, or pi's file could not be written: nothing goes on unrecorded. */
	full = false;

	constructor(
		private readonly session: Kept,
		private readonly report: (kind: string, data: Record<string, unknown>) => void,
		private readonly hasRoom: () => void,
	) {}

	/** Called often: takes the reserve, mends the file, and finds out when there is room again. */
	look(): void {
		const path = this.session.getSessionFile();
		if (path === undefined) return;
		if (path !== this.path) {
			this.reserve?.remove();
			this.reserve = new Reserve(path);
			this.path = path;
		} else if (performance.now() < this.notBefore) return;
		const roomy = this.takeReserve();
		let damage: string | undefined;
		try {
			// Without room too: pi may have left half an entry.
			damage = this.file.check(this.session, (bytes, error) => roomy && this.makeRoom(bytes, error));
			if (!roomy) return;
		} catch (error) {
			this.notBefore = performance.now() + PAUSE;
			this.couldNot(error);
			return;
		}
		this.trouble = "";
		if (this.full && this.reserve?.whole !== false) this.over();
		else if (damage && !this.full) this.report("problem", { code: "session_file", message: damage, seq: null });
	}

	/** False where there is no room for it, and the alarm stands. */
	private takeReserve(): boolean {
		try {
			if (this.full) this.reserve?.fillWith(this.wanted);
			else this.reserve?.fill();
			return true;
		} catch (error) {
			this.notBefore = performance.now() + PAUSE;
			if (FULL.test(textOf(error))) this.alarm(textOf(error), 0);
			else if (!this.full) this.reserve = undefined; // only existing files may be written here: it goes without
			return !this.full;
		}
	}

	/** pi could not write: room is made for its last words, and the alarm is raised. */
	refused(why: string): void {
		if (this.full) return;
		this.makeRoom(0, why);
		try {
			this.file.check(this.session, (bytes, error) => this.makeRoom(bytes, error));
		} catch (error) {
			this.couldNot(error);
		}
	}

	/** Waits until there is room, or `signal` says that nobody wants that any more. */
	async room(signal: AbortSignal | undefined): Promise<void> {
		if (!this.full || signal?.aborted) return;
		await new Promise<void>((resolve) => {
			const go = (): void => {
				this.waiting.delete(go);
				signal?.removeEventListener("abort", go);
				resolve();
			};
			this.waiting.add(go);
			signal?.addEventListener("abort", go);
		});
	}

	close(): void {
		this.reserve?.remove();
		for (const go of [...this.waiting]) go();
	}

	private makeRoom(bytes: number, error: unknown): boolean {
		if (!FULL.test(String(error))) return false;
		this.alarm(textOf(error), bytes);
		return this.reserve?.spend(bytes) ?? false;
	}

	private couldNot(error: unknown): void {
		const why = textOf(error);
		if (this.full) return;
		if (FULL.test(why)) {
			this.alarm(why, 0);
			return;
		}
		const message = `pi's session file is damaged and could not be written again: ${why}`;
		if (message !== this.trouble) this.report("problem", { code: "session_file", message, seq: null });
		this.trouble = message;
	}

	private alarm(reason: string, bytes: number): void {
		this.notBefore = performance.now() + PAUSE;
		if (this.full) return;
		this.full = true;
		this.wanted = performance.now() - this.endedAt < AGAIN ? Math.min(2 * this.wanted, MOST) : PIECE;
		const needed = Math.max(bytes, this.wanted) + PIECE * PIECES;
		this.report("disk", { full: true, path: dirname(this.path ?? "."), reason, needed });
	}

	private over(): void {
		this.full = false;
		this.endedAt = performance.now();
		this.report("disk", { full: false, path: dirname(this.path ?? "."), reason: "", needed: 0 });
		for (const go of [...this.waiting]) go();
		this.hasRoom();
	}
}

function textOf(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}
