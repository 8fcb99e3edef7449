// The session at moments that a real pi is hardly brought to: the disk is full, pi exits in the middle of a call. pi is a
// stand-in of a few lines here. ../test_extension.py runs it.

import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Session } from "../../../ramure/agents/pi/extension/session.ts";

const TOOL = { name: "work", description: "Works.", parameters: { type: "object", properties: {} } };
const FULL = "ENOSPC: no space left on device, write";

const until = async (what) => {
	for (let tries = 0; !what(); tries++) {
		assert.ok(tries < 1000, `not within 20 s: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
};
const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** As much of pi as a session needs: messages start runs, which end when the test says so. */
class Pi {
	constructor() {
		this.directory = mkdtempSync(join(tmpdir(), "ramure-session-test-"));
		this.file = join(this.directory, "session.jsonl");
		this.header = { type: "session", id: "h" };
		this.entries = [];
		this.prompts = [];
		this.reports = [];
		this.seq = 0;
		this.full = this.running = false;
		writeFileSync(this.file, `${JSON.stringify(this.header)}\n`);
		this.add({ type: "custom", customType: "seed", data: {} });
		this.context = {
			sessionManager: {
				getBranch: () => this.entries,
				getEntries: () => this.entries,
				getSessionFile: () => this.file,
				getHeader: () => this.header,
			},
			model: { provider: "p", id: "m" },
			modelRegistry: {},
			isIdle: () => !this.running,
			hasPendingMessages: () => false,
			abort: () => this.abort(),
			ui: { getEditorText: () => "", setEditorText() {} },
		};
		const api = {
			registerTool: (tool) => (this.tool = tool),
			getActiveTools: () => [],
			setActiveTools() {},
			appendEntry: (customType, data) => this.add({ type: "custom", customType, data }),
			sendUserMessage: (text) => setTimeout(() => this.prompt(text)),
		};
		const host = { send: (frame) => this.hear(frame), end() {} };
		this.session = new Session(api, this.context, { agent: "w", launch: "l", instance: 1, piVersion: "1.6.0" }, host);
		this.ticking = setInterval(() => this.session.tick(), 50);
		this.session.frame({ type: "welcome", reports: 0, upto: 0 });
	}

	hear(frame) {
		if (frame.type === "report") this.reports.push(frame);
		return true;
	}

	reported(kind) {
		return this.reports.filter((report) => report.kind === kind).map((report) => report.data);
	}

	add(entry) {
		const whole = { id: `e${this.entries.length + 1}`, ...entry };
		this.entries.push(whole);
		if (!this.full) appendFileSync(this.file, `${JSON.stringify(whole)}\n`);
	}

	/** An entry of the log. */
	say(type, data = {}) {
		const mark = type === "message" ? { mark: "abcdef27" } : {};
		this.session.frame({ type: "entry", prev: this.seq, entry: { seq: ++this.seq, ts: 0, type, data: { ...data, ...mark } } });
	}

	prompt(text) {
		this.prompts.push(text);
		this.running = true;
		this.session.agentStart();
		this.speak({ role: "user", content: text });
	}

	speak(message) {
		this.add({ type: "message", message: { timestamp: this.entries.length, ...message } });
		this.session.messageEnd(message);
		this.session.tick(this.context);
	}

	/** The model calls the tool. */
	call() {
		this.speak({ role: "assistant", stopReason: "toolUse", content: [{ type: "toolCall", id: "c1", name: "work", arguments: {} }] });
		this.aborting = new AbortController();
		this.called = this.tool.execute("c1", {}, this.aborting.signal, undefined, this.context).catch((error) => error.message);
	}

	async abort() {
		this.aborting?.abort();
		if (this.aborting) this.speak({ role: "toolResult", toolCallId: "c1", isError: true, content: [{ type: "text", text: await this.called }] });
		this.aborting = undefined;
		this.end("aborted");
	}

	end(stopReason, errorMessage) {
		this.speak({ role: "assistant", content: [], stopReason, errorMessage });
		this.running = false;
		this.session.agentEnd();
		this.session.settled();
	}

	close() {
		this.session.close(true); // else it would write its file again
		clearInterval(this.ticking);
		rmSync(this.directory, { recursive: true, force: true });
	}
}

const withPi = (what) => async () => {
	const pi = new Pi();
	try {
		await later(50);
		pi.say("tool", TOOL);
		await what(pi);
	} finally {
		pi.close();
	}
};

/** The disk is full: pi's writes fail, and where the reserve would be made anew there is something in its way. */
const fill = (pi) => {
	pi.full = true;
	mkdirSync(`${pi.file}.probe.reserve`);
};
const free = (pi) => {
	rmSync(`${pi.file}.probe.reserve`, { recursive: true });
	pi.full = false;
};
const lines = (pi) => readFileSync(pi.file, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line));

/** One run that is interrupted, or paused and gone on with. */
const before = {
	nothing: async () => {},
	"an interrupt": async (pi) => {
		pi.say("message", { text: "before" });
		await until(() => pi.running);
		pi.say("interrupt");
		await until(() => pi.reported("run_end").length === 1);
	},
	"a pause": async (pi) => {
		pi.say("message", { text: "before" });
		await until(() => pi.running);
		pi.say("pause", { paused: true });
		await until(() => !pi.running);
		pi.say("pause", { paused: false });
		await until(() => pi.running);
		pi.end("stop");
		await until(() => pi.reported("run_end").length === 1);
	},
};

for (const [name, past] of Object.entries(before)) {
	test(`after ${name}, a pi that aborts in order to exit cancels no call`, withPi(async (pi) => {
		await past(pi);
		pi.say("message", { text: "now" });
		await until(() => pi.running);
		pi.call();
		await pi.abort(); // nobody has asked for that
		pi.session.close(true);
		await later(1200); // longer than a person's abort would wait for its meaning
		assert.deepEqual(pi.reported("tool_cancel"), []);
	}));

	test(`after ${name}, what a full disk has stopped goes on when there is room`, withPi(async (pi) => {
		await past(pi);
		pi.say("message", { text: "now" });
		await until(() => pi.running);
		const prompts = pi.prompts.length;
		fill(pi);
		pi.end("error", FULL);
		await later(800);
		assert.equal(pi.prompts.length, prompts);
		free(pi);
		await until(() => pi.running);
		assert.equal(pi.prompts.length, prompts + 1);
	}));
}

test("an interrupt while the disk is full ends what that has stopped", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	await until(() => pi.running);
	fill(pi);
	pi.end("error", FULL);
	await later(300);
	pi.say("interrupt");
	free(pi);
	await until(() => pi.reported("run_end").length === 1);
	assert.equal(pi.reported("run_end")[0].stop_reason, "aborted");
	pi.say("message", { text: "next" });
	await until(() => pi.running);
}));

test("a full disk is an alarm of the run, with place and need, and it is over when there is room", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	await until(() => pi.running);
	assert.ok(existsSync(`${pi.file}.0.reserve`));
	fill(pi);
	pi.end("error", FULL);
	await until(() => pi.reported("disk").length === 1);
	const alarm = pi.reported("disk")[0];
	assert.deepEqual([alarm.full, alarm.path, alarm.reason], [true, pi.directory, FULL]);
	assert.ok(alarm.needed >= 3 * 65536);
	assert.equal(existsSync(`${pi.file}.0.reserve`), false); // its room is for pi's last words
	pi.say("message", { text: "next" });
	await later(700);
	assert.equal(pi.prompts.length, 1);
	free(pi);
	await until(() => pi.prompts.length === 2);
	assert.equal(pi.reported("disk").at(-1).full, false);
	assert.ok(existsSync(`${pi.file}.0.reserve`));
	assert.deepEqual(pi.reported("problem"), []);
}));

test("what a full disk has kept out of the file is added to it, from the reserve, and the rest is not written again", withPi(async (pi) => {
	const file = statSync(pi.file).ino;
	pi.full = true;
	pi.add({ type: "custom", customType: "kept out", data: {} });
	appendFileSync(pi.file, '{"type":"custom","id":"torn');
	await until(() => lines(pi).length === 3);
	assert.equal(lines(pi)[2].customType, "kept out");
	assert.equal(statSync(pi.file).ino, file);
}));

test("a file that was cut and has grown again is written anew, whole", withPi(async (pi) => {
	const before = lines(pi);
	writeFileSync(pi.file, `${readFileSync(pi.file, "utf8").replace('"e1"', '"x1"')}${JSON.stringify({ id: "x2" })}\n`);
	await until(() => lines(pi).length === before.length && lines(pi)[1].id === "e1");
	assert.equal(pi.reported("problem")[0].code, "session_file");
}));

test("a disk that has room for less than pi has to write is not taken for free again and again", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	const needs = [];
	for (let alarms = 1; alarms <= 3; alarms++) {
		await until(() => pi.running);
		pi.full = true;
		pi.end("error", FULL); // the room beyond the reserve can be had, but pi's own entry does not fit
		await until(() => pi.reported("disk").filter((one) => one.full).length === alarms);
		needs.push(pi.reported("disk").at(-1).needed);
		pi.full = false;
	}
	assert.ok(needs[0] < needs[1] && needs[1] < needs[2], String(needs));
}));

test("pi asks its model nothing while what led to that is not written down", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	await until(() => pi.running);
	fill(pi);
	pi.end("error", FULL);
	let asked = 0;
	const asking = pi.session.beforeRequest(undefined).then(() => asked++);
	const given_up = new AbortController();
	const giving = pi.session.beforeRequest(given_up.signal).then(() => asked++);
	await later(300);
	assert.equal(asked, 0);
	given_up.abort();
	await giving;
	assert.equal(asked, 1);
	free(pi);
	await asking;
	await until(() => pi.running);
}));

test("what a tool of pi's own has returned is not lost where only the writing down of it failed", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	await until(() => pi.running);
	pi.speak({ role: "assistant", stopReason: "toolUse", content: [{ type: "toolCall", id: "b1", name: "bash", arguments: {} }] });
	pi.session.toolEvent("tool_end", { tool_call_id: "b1", name: "bash", ok: true, text: "out" }, "output");
	fill(pi);
	pi.end("error", FULL);
	await later(300);
	free(pi);
	await until(() => pi.running);
	const kept = lines(pi).find((entry) => entry.customType === "ramure-call");
	assert.deepEqual([kept.data.ok, kept.data.text], [true, "output"]);
}));

test("where even pi's last words find no room, its run is over all the same", withPi(async (pi) => {
	pi.say("message", { text: "now" });
	await until(() => pi.running);
	fill(pi);
	pi.session.messageEnd({ role: "assistant", content: [], stopReason: "error", errorMessage: FULL });
	pi.running = false; // no agent_end, no agent_settled
	await until(() => pi.reported("disk").length === 1);
	free(pi);
	await until(() => pi.running);
	assert.equal(pi.prompts.length, 2);
}));

test("a person who works in a pause leaves nothing waiting after it", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	await until(() => pi.running);
	pi.say("pause", { paused: true });
	await until(() => !pi.running && pi.reported("state").at(-1).state === "idle");
	pi.prompt("by hand");
	pi.say("message", { text: "second" });
	pi.say("pause", { paused: false });
	await until(() => pi.prompts.some((text) => text.endsWith("second")));
	pi.end("stop");
	await until(() => pi.reported("run_end").length === 1);
}));

/** A run that the model fails in; its name. */
const failed = async (pi, count = 1) => {
	await until(() => pi.running);
	pi.end("error", "402 no credit");
	await until(() => pi.reported("run_failed").length === count);
	return pi.reported("run_failed").at(-1).run;
};

test("a run that the model failed in is held up: nothing is reported as over, and nothing begins", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	const run = await failed(pi);
	pi.session.settled(); // pi may say so once more
	pi.say("message", { text: "second" });
	pi.say("retry", { run: "another", retry: true });
	await later(300);
	assert.equal(pi.prompts.length, 1);
	assert.equal(pi.reported("run_failed").length, 1);
	assert.deepEqual(pi.reported("run_end"), []);
	assert.equal(pi.session.hello().state, "busy");
	pi.say("retry", { run, retry: true });
	await until(() => pi.prompts.length === 2);
	assert.match(pi.prompts[1], /second$/);
	pi.end("stop");
	await until(() => pi.reported("run_end").length === 1);
	assert.deepEqual(pi.reported("run_end")[0].seqs, [2, 3]);
}));

test("a person who writes has the run that failed go on, and a decision about it comes too late", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	const run = await failed(pi);
	pi.prompt("by hand");
	pi.say("retry", { run, retry: false });
	pi.say("message", { text: "second" });
	await until(() => pi.prompts.some((text) => text.endsWith("second")));
	pi.end("stop");
	await until(() => pi.reported("run_end").length === 1);
	assert.equal(pi.reported("run_end")[0].error, null);
}));

test("a person who leaves for another session ends the run that failed, with its error", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	await failed(pi);
	pi.session.close(false);
	assert.deepEqual(pi.reported("run_end").map((end) => end.error), ["402 no credit"]);
}));

test("each failure has a name of its own", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	const first = await failed(pi);
	pi.say("retry", { run: first, retry: true });
	const second = await failed(pi, 2);
	assert.notEqual(first, second);
	pi.say("retry", { run: first, retry: false }); // about the failure before
	await later(200);
	assert.deepEqual(pi.reported("run_end"), []);
	pi.say("retry", { run: second, retry: false });
	await until(() => pi.reported("run_end").length === 1);
	assert.equal(pi.reported("run_end")[0].error, "402 no credit");
}));

test("what pushes pi on is not reported as if a person had typed it", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	const run = await failed(pi);
	pi.say("retry", { run, retry: true });
	await until(() => pi.prompts.length === 2);
	assert.match(pi.prompts[1], /^\[ramure continue\]/);
	assert.deepEqual(pi.reported("user").map((said) => said.seq), [2]);
}));

test("a pi that takes messages and does not begin is given up after four of them", withPi(async (pi) => {
	const clock = performance.now.bind(performance);
	let skew = 0;
	performance.now = () => clock() + skew;
	try {
		pi.prompt = () => {};
		pi.say("message", { text: "first" });
		for (let tries = 0; tries < 3; tries++) {
			await later(100);
			skew += 4100;
		}
		await until(() => pi.reported("problem").length === 1);
		assert.equal(pi.reported("problem")[0].given_up, false);
		skew += 4100;
		await until(() => pi.reported("problem").length === 2);
		assert.equal(pi.reported("problem")[1].code, "not_started");
		assert.equal(pi.reported("problem")[1].given_up, true);
	} finally {
		performance.now = clock;
	}
}));

test("escape in a pause of pi's own retries is an abort; elsewhere it is nothing", withPi(async (pi) => {
	pi.say("message", { text: "first" });
	await until(() => pi.running);
	pi.session.escape();
	const settled = pi.session.settled.bind(pi.session);
	pi.session.settled = () => {};
	pi.end("error", "429 slow down"); // pi waits before it tries again
	pi.session.escape();
	settled();
	assert.equal(pi.reported("run_end")[0].stop_reason, "aborted");
	assert.deepEqual(pi.reported("run_failed"), []);
	pi.session.settled = settled;
	pi.say("message", { text: "second" });
	assert.ok(await failed(pi));
	pi.session.escape();
	await later(200);
	assert.equal(pi.reported("run_end").length, 1);
}));

test("a call whose arguments are too large for a frame is refused, and what is reported of it is cut", withPi(async (pi) => {
	const more = "語".repeat(6_000_000);
	pi.say("message", { text: "first" });
	await until(() => pi.running);
	pi.session.toolEvent("tool_start", { tool_call_id: "c1", name: "work", arguments: { more } });
	const answer = await pi.tool.execute("c1", { more }, undefined, undefined, pi.context).catch((error) => error.message);
	assert.match(answer, /^the call of work is too large: 180\d+ bytes, and 16776192 is the limit/);
	assert.deepEqual(pi.reported("tool_call"), []);
	assert.match(pi.reported("tool_start")[0].arguments.left_out, /^180\d+ bytes/);
}));
