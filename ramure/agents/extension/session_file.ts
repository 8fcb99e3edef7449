// Keeps pi's session file whole. pi has the conversation in memory and only ever adds to the file, so one that was deleted
// or cut under a live pi would look sound to it, and the next start would find a stump, or nothing.

import { mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** What we need of pi's session manager. */
export interface Kept {
	getSessionFile(): string | undefined;
	getHeader(): unknown;
	getEntries(): readonly unknown[];
}

function sizeOf(path: string): number {
	try {
		return statSync(path).size;
	} catch {
		return 0;
	}
}

export class SessionFile {
	private path: string | undefined;
	private size = 0;

	/** Writes the file anew if it has become smaller; what was seen then, for the log. */
	check(session: Kept): string | undefined {
		const path = session.getSessionFile();
		if (path === undefined) return undefined;
		const size = sizeOf(path);
		const known = path === this.path ? this.size : 0;
		this.path = path;
		this.size = size;
		const header = session.getHeader();
		if (size >= known || !header) return undefined;
		const text = [header, ...session.getEntries()].map((entry) => `${JSON.stringify(entry)}\n`).join("");
		mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
		// Never a half-written file: pi may be killed at any moment.
		writeFileSync(`${path}.new`, text, { mode: 0o600 });
		renameSync(`${path}.new`, path);
		this.size = sizeOf(path);
		return `pi's session file had ${size} bytes instead of ${known}; it has been written again, whole`;
	}
}
