// The test vectors of docs/protocol.md, on the extension's side; ../test_extension.py runs it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as conversation from "../../../ramure/agents/pi/extension/conversation.ts";
import * as wire from "../../../ramure/agents/pi/extension/wire.ts";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

for (const { applied, prev, seq, verdict } of vectors("order").cases) {
	test(`order: applied ${applied}, entry ${seq} after ${prev}: ${verdict}`, () => {
		const inbox = new wire.Inbox();
		inbox.applied = applied;
		assert.equal(inbox.judge(prev, seq), verdict);
	});
}

for (const frame of vectors("frames").sound) {
	test(`a sound ${frame.type} frame is read`, () => {
		assert.deepEqual(wire.parseFrame(JSON.stringify(frame)), frame);
		const ours = ["hello", "ack", "delivered", "report", "bye"].includes(frame.type);
		assert.equal(wire.misfit(frame)?.code, ours ? "type" : undefined);
	});
}

for (const { text, code } of vectors("frames").malformed) {
	test(`malformed: ${text}`, () => {
		const frame = wire.parseFrame(text);
		if (code === "json") assert.equal(typeof frame, "string");
		else assert.ok(typeof frame === "string" || wire.misfit(frame));
	});
}

const { limits, cases } = vectors("reports");
for (const { name, kind, data, fitted } of cases) {
	test(`a report: ${name}`, () => assert.deepEqual(wire.fitted(kind, data, limits), fitted));
}

test("reports are measured in bytes, not in UTF-16 units", () => {
	const { data } = wire.fitted("assistant", { text: "語".repeat(6_000_000) });
	assert.ok(Buffer.byteLength(JSON.stringify(data)) < wire.MAX_FRAME);
	assert.match(data.text, /^語+… \(5475712 characters left out\)$/);
});

for (const one of vectors("conversation").cases) {
	test(`conversation: ${one.name}`, () => {
		const messages = one.branch.flatMap((entry) => (entry.message ? [entry.message] : []));
		assert.deepEqual(messages.map(conversation.seqOf).filter((seq) => seq !== undefined), one.seqs);
		assert.deepEqual(conversation.openCalls(one.branch).map((call) => call.key), one.open);
		const left = conversation.unsettled(one.branch);
		assert.deepEqual(left ? { seqs: left.seqs, waiting: left.waiting } : null, one.unsettled);
		const settled = conversation.lastSettled(one.branch);
		assert.deepEqual(settled ? { seqs: settled.seqs, text: conversation.textOf(settled.last) } : null, one.settled);
		if (!one.request) return;
		const request = conversation.forRequest(messages, conversation.outcomesIn(one.branch));
		const found = request.map((message) => (messages.includes(message) ? messages.indexOf(message) : conversation.textOf(message)));
		assert.deepEqual(found, one.request);
	});
}

test("reports are kept until acknowledged, and numbered without gaps", () => {
	const reports = new wire.Reports();
	for (const kind of ["a", "b", "c"]) reports.add(kind, {});
	reports.acknowledged(1);
	assert.deepEqual(reports.after(0).map((report) => report.n), [2, 3]);
	assert.deepEqual(reports.after(2).map((report) => report.n), [3]);
	assert.equal(reports.add("d", {}).n, 4);
});

test("a call's key is its message's entry and its id; the launch stands in for an entry that is not there", () => {
	const entry = (id) => ({ type: "message", id, message: { role: "assistant", stopReason: "toolUse", content: [{ type: "toolCall", id: "c" }] } });
	assert.equal(conversation.callKey([entry("a"), entry("b")], "c", "l1"), "b/c");
	assert.equal(conversation.callKey([], "c", "l1"), "l1/c");
});

test("a marker that a person typed is taken off", () => {
	assert.equal(conversation.unmark("[ramure 3] hi"), "hi");
	assert.equal(conversation.unmark("[ramure 3 abcdef27] [ramure 4] hi"), "hi");
	assert.equal(conversation.unmark("[ramure continue] hi"), "hi");
	assert.equal(conversation.unmark("hi [ramure 3] "), "hi [ramure 3] ");
	assert.deepEqual(conversation.markerOf({ role: "user", content: conversation.marked({ seq: 3, mark: "abcdef27" }, "x") }), { seq: 3, mark: "abcdef27" });
});
