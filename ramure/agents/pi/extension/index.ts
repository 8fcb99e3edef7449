// ramure's side inside pi. Started as `pi -e .../index.ts`; see docs/protocol.md. No runtime import of pi: types only.

import { readFileSync, realpathSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import { type Config, CONFIG_VARIABLE, loadConfig } from "./config.ts";
import { type Message, seqOf, unmark } from "./conversation.ts";
import { Link } from "./link.ts";
import { Session } from "./session.ts";

/** Ends pi at once, and leaves the reason on the screen. */
function die(why: string, status: number): never {
	process.on("exit", () => {
		// After pi has given the terminal back; a closed terminal is no reason not to exit.
		try {
			writeSync(2, `\r\x1b[J\nramure: ${why}\r\n`);
		} catch {}
	});
	process.exit(status);
}

/** The version in the package.json of the pi that runs us. */
function piVersion(): string {
	let folder = dirname(realpathSync(process.argv[1] ?? "."));
	for (let up = 0; up < 6; up++, folder = dirname(folder)) {
		try {
			const found = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name?: string; version?: string };
			if (found.name?.endsWith("/pi-coding-agent")) return found.version ?? "unknown";
		} catch {
			// No package.json in this folder: look in the one above.
		}
	}
	return "unknown";
}

/**
 * /new, /resume and /reload make a new instance of us in the same process. It needs the configuration again, and is as
 * a new launch to the run: it has applied nothing, and its reports begin at 1.
 */
function configuration(): { config: Config; instance: number } {
	const kept = globalThis as { __ramure?: { config: Config; instances: number } };
	kept.__ramure ??= { config: loadConfig(process.env[CONFIG_VARIABLE]), instances: 0 };
	// What pi starts (shells, another pi) is no agent of this run.
	delete process.env[CONFIG_VARIABLE];
	return { config: kept.__ramure.config, instance: ++kept.__ramure.instances };
}

/** Milliseconds that pi waits at its start for what the run has for us. */
const CATCHING_UP = 500;

/**
 * SIGUSR1 opens Node's inspector, through which anyone on this host could steer pi, unless something else listens to it.
 * (A Node that can is started with --disable-sigusr1 besides.) One that is open by now is closed.
 */
function closeInspector(): void {
	if (process.listenerCount("SIGUSR1") === 0) process.on("SIGUSR1", () => {});
	import("node:inspector").then((inspector) => inspector.url() && inspector.close()).catch(() => {});
}

/** The key alone, as terminals of the old and of the new kind send it. */
const ESCAPE = /^\x1b(\[27(;1(:1)?)?u)?$/;

type Handler = (event: never, ctx: ExtensionContext) => unknown;

export default function ramure(pi: ExtensionAPI): void {
	closeInspector();
	let config: Config;
	let instance: number;
	try {
		({ config, instance } = configuration());
	} catch (error) {
		die(error instanceof Error ? error.message : String(error), 78);
	}
	let session: Session | undefined;
	let link: Link | undefined;
	let ticking: NodeJS.Timeout | undefined;
	let ending = false;

	/** Ends pi: asks it to, and does it when pi has not within a moment (it waits for the agent to be idle). */
	const end = (ctx: ExtensionContext, why: string, status: number): void => {
		if (ending) return;
		ending = true;
		link?.close();
		setTimeout(() => die(why, status), 300);
		setTimeout(() => process.kill(process.pid, "SIGKILL"), 1500);
		ctx.abort();
		if (status === 0) ctx.shutdown();
	};

	// Not every version knows every event; an unknown name does no harm, so the types of one version must not forbid it.
	const on = pi.on.bind(pi) as unknown as (event: string, handler: Handler) => void;
	/** A handler that keeps the session informed of the event's context, and of the time. */
	const observe = (event: string, handler: (session: Session, event: Record<string, unknown>) => unknown): void => {
		on(event, (data: Record<string, unknown>, ctx) => {
			if (!session) return undefined;
			const answer = handler(session, data);
			session.tick(ctx);
			return answer;
		});
	};

	on("project_trust", () => ({ trusted: "no" }));

	let context: ExtensionContext | undefined;
	const connect = (): Link =>
		new Link(config, {
			hello: () => session?.hello(),
			frame: (frame) => session?.frame(frame),
			gone: (why) => (context ? end(context, why, 1) : die(why, 1)),
		});
	link = connect(); // while pi gets ready: after session_start it would wait for pi's screen

	on("session_start", async (_event: unknown, ctx) => {
		context = ctx;
		session = new Session(
			pi,
			ctx,
			{ agent: config.agent, launch: config.launch, instance, piVersion: piVersion() },
			{ send: (frame) => link?.send(frame) ?? false, end: (why, status) => end(ctx, why, status) },
		);
		const started = session;
		link ??= connect();
		link.greet();
		ticking = setInterval(() => started.tick(), 100);
		ctx.ui.setStatus("ramure", `ramure: ${config.agent}`);
		ctx.ui.onTerminalInput?.((keys) => {
			if (ESCAPE.test(keys)) session?.escape();
			return undefined;
		});
		await started.caughtUpWithin(CATCHING_UP); // pi's screen comes after that, and takes a tenth of a second or more
	});

	on("session_shutdown", (event: { reason?: string }) => {
		link?.send({ type: "bye", reason: event.reason ?? "quit" });
		link?.close();
		clearInterval(ticking);
		session?.close((event.reason ?? "quit") === "quit");
		session = link = undefined;
	});

	on("input", (event: { text: string; source?: string }) => {
		if (event.source === "extension") return undefined;
		const text = unmark(event.text);
		// Aborted by hand, pi puts a queued message of ours back into its editor; it is delivered anyway.
		if (text !== event.text && seqOf({ role: "user", content: event.text }) !== undefined) return { action: "handled" };
		return text === event.text ? undefined : { action: "transform", text };
	});

	observe("before_agent_start", (s, event) => {
		const systemPrompt = s.prompt(event.systemPrompt as string);
		return systemPrompt === undefined ? undefined : { systemPrompt };
	});
	on("context", async (event: { messages: Message[] }, ctx) => {
		const asked = session;
		asked?.tick(ctx);
		await asked?.beforeRequest(ctx.signal);
		return asked && { messages: asked.request(event.messages) };
	});
	observe("before_provider_request", () => undefined);
	observe("agent_start", (s) => s.agentStart());
	observe("agent_end", (s) => s.agentEnd());
	observe("agent_settled", (s) => s.settled());
	observe("turn_end", () => undefined);
	observe("message_end", (s, event) => s.messageEnd(event.message as Message));
	observe("session_before_compact", (s) => s.compaction(true));
	observe("session_compact", (s) => s.compaction(false));
	observe("session_compact_failed", (s, event) => s.compaction(false, event.errorMessage as string | undefined));
	observe("tool_execution_start", (s, event) =>
		s.toolEvent("tool_start", { tool_call_id: event.toolCallId, name: event.toolName, arguments: event.args }),
	);
	observe("tool_execution_end", (s, event) => {
		const text = resultText(event.result);
		const told = { tool_call_id: event.toolCallId, name: event.toolName, ok: !event.isError, text: text.slice(0, 16_384) };
		s.toolEvent("tool_end", told, text);
	});
}

function resultText(result: unknown): string {
	const content = (result as { content?: { type: string; text?: string }[] } | undefined)?.content ?? [];
	return content
		.filter((block) => block.type === "text")
		.map((block) => block.text ?? "")
		.join("\n");
}
