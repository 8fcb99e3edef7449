// The run's tools in pi: definitions from the log, calls sent to the run, results brought back.

import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import { CANCELLED, callKey, type OpenCall, type Outcome, type SessionEntry } from "./conversation.ts";
import { excess } from "./wire.ts";

type ToolDefinition = Parameters<ExtensionAPI["registerTool"]>[0];

export interface Answer {
	ok: boolean;
	text: string;
	/** Beside the text, each in base64. */
	images?: Picture[];
}

interface Picture {
	mime_type: string;
	data: string;
}

/** The images of a `tool_result` frame, without what is none. */
export function imagesIn(value: unknown): Picture[] {
	const all: Partial<Picture>[] = Array.isArray(value) ? value.filter((each) => typeof each === "object" && each !== null) : [];
	return all.filter((each): each is Picture => typeof each.mime_type === "string" && typeof each.data === "string");
}

interface Waiting {
	resolve(answer: Answer): void;
}

export class Tools {
	private readonly names = new Set<string>();
	private readonly waiting = new Map<string, Waiting>();

	constructor(
		private readonly pi: ExtensionAPI,
		private readonly launch: string,
		private readonly report: (kind: string, data: Record<string, unknown>) => void,
		/** pi has aborted a call: told to the run when it is known whether somebody wanted that. */
		private readonly aborted: (toolCallId: string, tell: () => void) => void,
	) {}

	has(name: string): boolean {
		return this.names.has(name);
	}

	/** Calls without an answer, for the hello: the run sends again what it answered while we were apart. */
	pending(): string[] {
		return [...this.waiting.keys()];
	}

	define(name: string, description: string, parameters: object): void {
		this.names.add(name);
		this.pi.registerTool({
			name,
			label: name,
			description,
			promptSnippet: description.split("\n", 1)[0],
			// pi validates plain JSON Schema as well as typebox's, which is JSON Schema with symbols on it.
			parameters: parameters as ToolDefinition["parameters"],
			execute: async (toolCallId: string, params: unknown, signal: AbortSignal | undefined, _update: unknown, ctx: ExtensionContext) => {
				if (!this.names.has(name)) throw new Error(`the tool ${name} is no longer offered`);
				const key = callKey(ctx.sessionManager.getEntries() as unknown as SessionEntry[], toolCallId, this.launch);
				const answer = await this.call(key, toolCallId, name, params, signal);
				if (!answer.ok) throw new Error(answer.text);
				const images = (answer.images ?? []).map(({ mime_type, data }) => ({ type: "image" as const, mimeType: mime_type, data }));
				return { content: [{ type: "text" as const, text: answer.text }, ...images], details: {} };
			},
		});
		if (!this.pi.getActiveTools().includes(name)) this.pi.setActiveTools([...this.pi.getActiveTools(), name]);
	}

	remove(name: string): void {
		this.names.delete(name);
		this.pi.setActiveTools(this.pi.getActiveTools().filter((active) => active !== name));
	}

	/**
	 * What a call that a killed pi left open came to; the run answers an id that it knows without doing it again. `known`: what
	 * a tool of pi's own has returned, where only the writing down of it failed.
	 */
	async adopt(call: OpenCall, signal: AbortSignal, known: Answer | undefined): Promise<Outcome> {
		const { timestamp, toolCallId } = call;
		if (!this.names.has(call.name)) {
			if (known) return { timestamp, toolCallId, ...known };
			const text = `pi was stopped while ${call.name} ran. Whether it took effect is not known: look before you repeat it.`;
			return { timestamp, toolCallId, ok: false, text };
		}
		const answer = await this.call(call.key, toolCallId, call.name, call.arguments, signal);
		return { timestamp, toolCallId, ok: answer.ok, text: answer.text };
	}

	answered(key: string, answer: Answer): void {
		this.waiting.get(key)?.resolve(answer);
	}

	private call(key: string, toolCallId: string, name: string, args: unknown, signal?: AbortSignal): Promise<Answer> {
		const report = { call_id: key, name, arguments: args ?? {}, tool_call_id: toolCallId };
		const reason = excess(report);
		if (reason !== undefined) return Promise.resolve({ ok: false, text: `the call of ${name} is too large: ${reason}. Pass less, or a file.` });
		return new Promise((resolve) => {
			const finish = (answer: Answer): void => {
				signal?.removeEventListener("abort", cancel);
				this.waiting.delete(key);
				resolve(answer);
			};
			const cancel = (): void => {
				this.aborted(toolCallId, () => this.report("tool_cancel", { call_id: key }));
				// At once: pi, which may be about to exit, waits for it.
				finish({ ok: false, text: CANCELLED });
			};
			this.waiting.set(key, { resolve: finish });
			this.report("tool_call", report);
			if (signal?.aborted) cancel();
			else signal?.addEventListener("abort", cancel, { once: true });
		});
	}
}
