// Keeps pi's session file whole. pi has the conversation in memory and only ever adds to the file: one that was deleted
// or cut under a live pi, or that a full disk has kept entries out of, would look sound to it, and the next start would find
// a stump, or nothing.

import { mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** What we need of pi's session manager. */
export interface Kept {
	getSessionFile(): string | undefined;
	getHeader(): unknown;
	getEntries(): readonly unknown[];
}

/** Milliseconds between two attempts to write it again. */
const PAUSE = 1000;

const line = (entry: unknown): string => `${JSON.stringify(entry)}\n`;

function sizeOf(path: string): number {
	try {
		return statSync(path).size;
	} catch {
		return 0;
	}
}

export class SessionFile {
	private path: string | undefined;
	/** What the file must hold: its bytes when it was first seen, or written, and those of the entries since. */
	private size = 0;
	private entries = 0;
	private notBefore = 0;

	/** Writes the file anew if it does not hold what it must; what was seen then, for the log. Throws if it cannot. */
	check(session: Kept): string | undefined {
		const path = session.getSessionFile();
		if (path === undefined || performance.now() < this.notBefore) return undefined;
		const size = sizeOf(path);
		const entries = session.getEntries();
		if (path !== this.path || this.size === 0) {
			// pi begins a file of its own late, with all that there is.
			this.seen(path, size, entries.length);
			return undefined;
		}
		for (const entry of entries.slice(this.entries)) this.size += Buffer.byteLength(line(entry));
		this.entries = entries.length;
		if (size === this.size) return undefined;
		const expected = this.size;
		this.notBefore = performance.now() + PAUSE;
		this.write(path, [session.getHeader(), ...entries].map(line).join(""));
		this.seen(path, sizeOf(path), entries.length);
		this.notBefore = 0;
		return `pi's session file had ${size} bytes instead of ${expected}, as after a full disk or a cut by another program; it has been written again, whole`;
	}

	private seen(path: string, size: number, entries: number): void {
		this.path = path;
		this.size = size;
		this.entries = entries;
	}

	/** Never a half-written file: pi may be killed at any moment. */
	private write(path: string, text: string): void {
		mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
		try {
			writeFileSync(`${path}.new`, text, { mode: 0o600 });
			renameSync(`${path}.new`, path);
		} catch (error) {
			rmSync(`${path}.new`, { force: true });
			throw error;
		}
	}
}
