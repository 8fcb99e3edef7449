// Files beside pi's session file that hold room on its disk, for what must be written there when that is full. The run has
// the like for its logs (ramure/runtime/run/reserve.py).

import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";

/** What a write fails with when there is no room (or none that can be used), which can be over without our doing. */
export const FULL = /\b(ENOSPC|EDQUOT|EROFS|EIO)\b/;

/** Bytes of each file: a part of a file does not give its room back on every file system. */
export const PIECE = 1 << 16;
export const PIECES = 2;

export class Reserve {
	private readonly paths: string[];
	private readonly probe: string;
	private readonly held = new Set<string>();

	constructor(sessionFile: string) {
		this.probe = `${sessionFile}.probe.reserve`;
		this.paths = Array.from({ length: PIECES }, (_, number) => `${sessionFile}.${number}.reserve`);
	}

	get whole(): boolean {
		return this.held.size === this.paths.length;
	}

	/** Makes it whole. Throws if there is no room for that. */
	fill(): void {
		for (const path of this.paths) {
			if (this.held.has(path)) continue;
			try {
				writeFileSync(path, randomBytes(PIECE), { mode: 0o600 }); // nothing that a file system could compress
			} catch (error) {
				remove(path); // others need that room more
				throw error;
			}
			this.held.add(path);
		}
	}

	/** Makes it whole, and tries whether there is room for so many bytes beyond it. Throws if there is not. */
	fillWith(more: number): void {
		this.fill();
		try {
			const piece = randomBytes(PIECE);
			for (let done = 0; done < more; done += PIECE) writeFileSync(this.probe, piece, { mode: 0o600, flag: "a" });
		} finally {
			remove(this.probe);
		}
	}

	/** Gives back room for so many bytes. False when there is nothing to give. */
	spend(bytes: number): boolean {
		const given = [...this.held].slice(0, Math.floor(bytes / PIECE) + 1);
		for (const path of given) {
			this.held.delete(path);
			remove(path);
		}
		return given.length > 0;
	}

	/** Gives back all. */
	remove(): void {
		this.held.clear();
		for (const path of [...this.paths, this.probe]) remove(path);
	}
}

function remove(path: string): void {
	try {
		rmSync(path, { force: true });
	} catch {
		// It is not ours, or the disk is read-only: then it holds no room for us.
	}
}
