// Keeps pi's session file whole. pi has the conversation in memory and only ever adds to the file: one that was deleted
// or cut under a live pi, or that a full disk has kept entries out of, would look sound to it, and the next start would find
// a stump, or nothing.

import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** What we need of pi's session manager. */
export interface Kept {
	getSessionFile(): string | undefined;
	getHeader(): unknown;
	getEntries(): readonly unknown[];
}

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
	/** What the file must hold: its bytes when it was last seen whole, and those of the entries since. */
	private size = 0;
	private entries = 0;
	/** When it was last seen whole. */
	private sound = { size: 0, entries: 0 };

	/**
	 * Mends the file if it does not hold what it must; what was seen then, for the log. Throws if that cannot be done.
	 * `makeRoom` is asked once for so many bytes where the disk has none.
	 */
	check(session: Kept, makeRoom: (bytes: number, error: unknown) => boolean): string | undefined {
		const path = session.getSessionFile();
		if (path === undefined) return undefined;
		const size = sizeOf(path);
		const entries = session.getEntries();
		if (path !== this.path || this.size === 0) {
			// pi begins a file of its own late, with all that there is.
			this.seen(path, size, entries.length);
			return undefined;
		}
		for (const entry of entries.slice(this.entries)) this.size += Buffer.byteLength(line(entry));
		this.entries = entries.length;
		if (size === this.size) {
			this.seen(path, size, entries.length);
			return undefined;
		}
		const expected = this.size;
		// What a full disk has kept out is added: for the whole once more there would not be the room.
		const missing = this.isSoundSoFar(path, entries) ? entries.slice(this.sound.entries).map(line).join("") : undefined;
		const text = missing ?? [session.getHeader(), ...entries].map(line).join("");
		const write = (): void => (missing === undefined ? replace(path, text) : append(path, this.sound.size, text));
		try {
			write();
		} catch (error) {
			if (!makeRoom(Buffer.byteLength(text), error)) throw error;
			write();
		}
		this.seen(path, sizeOf(path), entries.length);
		return `pi's session file had ${size} bytes instead of ${expected}, as after a full disk or a cut by another program; it has been written again, whole`;
	}

	private seen(path: string, size: number, entries: number): void {
		this.path = path;
		this.size = size;
		this.entries = entries;
		this.sound = { size, entries };
	}

	/** Whether the file still begins with all that it held when it was last seen whole. */
	private isSoundSoFar(path: string, entries: readonly unknown[]): boolean {
		const { size, entries: count } = this.sound;
		if (sizeOf(path) < size) return false;
		try {
			const lines = readFileSync(path).subarray(0, size).toString("utf8").split("\n");
			const ids = lines.slice(1, -1).map((text) => (JSON.parse(text) as { id?: unknown }).id);
			return lines.at(-1) === "" && ids.length === count && ids.every((id, at) => id === (entries[at] as { id?: unknown }).id);
		} catch {
			return false;
		}
	}
}

/** Writes the text where the file is sound up to; at once, so that pi, which is in this process, adds nothing meanwhile. */
function append(path: string, at: number, text: string): void {
	const descriptor = openSync(path, "r+");
	try {
		ftruncateSync(descriptor, at);
		const data = Buffer.from(text);
		try {
			for (let done = 0; done < data.length; ) done += writeSync(descriptor, data, done, data.length - done, at + done);
		} catch (error) {
			ftruncateSync(descriptor, at);
			throw error;
		}
	} finally {
		closeSync(descriptor);
	}
}

/** Never a half-written file: pi may be killed at any moment. */
function replace(path: string, text: string): void {
	mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
	try {
		writeFileSync(`${path}.new`, text, { mode: 0o600 });
		renameSync(`${path}.new`, path);
	} catch (error) {
		rmSync(`${path}.new`, { force: true, recursive: true });
		throw error;
	}
}
