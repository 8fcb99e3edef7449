// Names that are like a given one. Pure.

/** The most that are named. */
const NAMED = 3;

/** Of `known`, those that `name` may be a slip of, the nearest first; else a few of them. */
export function nearest(name: string, known: readonly string[]): string[] {
	const wanted = name.toLowerCase();
	const ranked = known.map((one) => ({ one, off: distance(wanted, one.toLowerCase()) })).sort((a, b) => a.off - b.off || (a.one < b.one ? -1 : 1));
	return ranked.slice(0, NAMED).map(({ one }) => one);
}

/** How many characters have to be put in, taken out or changed (Levenshtein). */
function distance(a: string, b: string): number {
	let row = Array.from({ length: b.length + 1 }, (_, j) => j);
	for (let i = 1; i <= a.length; i++) {
		const next = [i];
		for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
		row = next;
	}
	return row[b.length];
}
