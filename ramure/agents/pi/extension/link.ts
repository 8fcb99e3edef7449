// The connection to the run: opening, heartbeat, reconnecting, and the grace time after which a run counts as gone.

import { realpathSync } from "node:fs";
import { createRequire } from "node:module";
import type { Config } from "./config.ts";
import { CLOSE_REFUSED, CLOSE_REPLACED, type Frame, MAX_FRAME, misfit, parseFrame, SUBPROTOCOL, TOKEN_PREFIX } from "./wire.ts";

interface Socket {
	send(data: string): void;
	close(code?: number, reason?: string): void;
	addEventListener(type: string, listener: (event: { data?: unknown; code?: number; reason?: string }) => void): void;
}
type SocketClass = new (url: string, protocols: string[]) => Socket;

export interface LinkOwner {
	/** The first frame of a new connection; undefined before there is a session (then `greet` says when there is one). */
	hello(): Frame | undefined;
	/** A frame from the run, in order; `welcome` is the first of a connection. */
	frame(frame: Frame): void;
	/** The run will not have us, or has been gone for the grace time. Called once. */
	gone(why: string): void;
}

/** Node 20 has no global WebSocket; pi itself depends on undici, which has one. */
function socketClass(): SocketClass {
	const built = (globalThis as { WebSocket?: SocketClass }).WebSocket;
	if (built) return built;
	return (createRequire(realpathSync(process.argv[1]))("undici") as { WebSocket: SocketClass }).WebSocket;
}

const seconds = (): number => performance.now() / 1000;

/** Milliseconds between two looks at the connection. */
const TICK = 50;
/** Seconds by which a look must be late to count as time in which we could not hear. */
const LATE = 1;

export class Link {
	/** Whether the run has welcomed us on the present connection. */
	live = false;
	private everLive = false;
	private socket: Socket | undefined;
	private opened = false;
	/** Whether the present connection has had our hello. */
	private greeted = false;
	private heard = 0;
	private pinged = 0;
	private downSince = seconds();
	private tries = 0;
	private nextTry = 0;
	private ticked = seconds();
	private closed = false;
	private timer: NodeJS.Timeout;

	constructor(
		private readonly config: Config,
		private readonly owner: LinkOwner,
	) {
		this.timer = setInterval(() => this.tick(), TICK);
		this.connect();
	}

	/** Sends a frame on an open connection; false when there is none (who needs it delivered keeps it). */
	send(frame: Frame): boolean {
		if (!this.socket || !this.opened) return false;
		const text = JSON.stringify(frame);
		if (Buffer.byteLength(text) > MAX_FRAME) throw new Error(`a ${frame.type} frame is larger than ${MAX_FRAME} bytes`);
		this.socket.send(text);
		return true;
	}

	/** Introduces us on a connection that is open: who is connected before there is a session waits for this. */
	greet(): void {
		const hello = this.opened ? this.owner.hello() : undefined;
		if (hello) this.greeted = this.send(hello);
	}

	close(): void {
		this.closed = true;
		clearInterval(this.timer);
		this.drop("closed");
	}

	private connect(): void {
		const Class = socketClass();
		const socket = new Class(this.config.url, [SUBPROTOCOL, TOKEN_PREFIX + this.config.token]);
		this.socket = socket;
		this.heard = seconds();
		const mine = (action: () => void) => (): void => {
			if (this.socket === socket) action();
		};
		socket.addEventListener(
			"open",
			mine(() => {
				this.opened = true;
				this.greet();
			}),
		);
		socket.addEventListener("message", (event) => {
			if (this.socket === socket) this.receive(String(event.data));
		});
		// A refused connection was seen to fire only "error", a lost one only "close": either ends it, once.
		socket.addEventListener("error", mine(() => this.drop("error")));
		socket.addEventListener("close", (event) => {
			if (this.socket !== socket) return;
			this.drop("closed");
			if (event.code === CLOSE_REFUSED) this.end(event.reason || "the run refused the token");
			else if (event.code === CLOSE_REPLACED) this.end(event.reason || "another pi has taken this launch over");
		});
	}

	private receive(text: string): void {
		this.heard = seconds();
		const frame = parseFrame(text);
		const wrong = typeof frame === "string" ? { code: "json", message: frame } : misfit(frame);
		if (typeof frame === "string" || wrong) {
			this.send({ type: "error", ...wrong });
			return;
		}
		if (frame.type === "ping") {
			this.send({ type: "pong" });
			return;
		}
		if (frame.type === "welcome") {
			this.live = this.everLive = true;
			this.tries = 0;
		}
		this.owner.frame(frame);
	}

	private drop(reason: string): void {
		if (this.live) this.downSince = seconds();
		const socket = this.socket;
		this.socket = undefined;
		this.live = this.opened = this.greeted = false;
		this.nextTry = seconds() + Math.min(1, 0.05 * 2 ** this.tries++) * (0.5 + Math.random() / 2);
		try {
			socket?.close(1000, reason);
		} catch {
			// Closing a socket that never opened throws on some Node versions; it is no longer ours either way.
		}
	}

	private tick(): void {
		const now = seconds();
		const late = now - this.ticked - TICK / 1000;
		this.ticked = now;
		if (late > LATE) {
			// Stopped or busy, this process has neither read what came meanwhile nor tried to connect.
			this.heard = Math.min(this.heard + late, now);
			this.downSince = Math.min(this.downSince + late, now);
		}
		// The run is there: it is pi that is not ready, as another extension takes its time. How long it may is the run's affair.
		if (this.opened && !this.greeted) this.downSince = now;
		if (this.socket && now - this.heard > this.config.silence) this.drop("silence");
		if (!this.live && now - this.downSince > this.config.grace) {
			this.end(`the run has been unreachable for ${this.config.grace} s${this.proxies()}`);
			return;
		}
		if (!this.socket) {
			if (now >= this.nextTry) this.connect();
		} else if (this.live && now - this.pinged >= this.config.heartbeat) {
			this.pinged = now;
			this.send({ type: "ping" });
		}
	}

	/** What may be in the way, if it never was reached. */
	private proxies(): string {
		const set = Object.keys(process.env).filter((name) => /^(https?|all)_proxy$/i.test(name) && process.env[name]);
		if (this.everLive || set.length === 0) return "";
		return ` (${set.join(", ")} ${set.length > 1 ? "are" : "is"} set: NO_PROXY must name ${new URL(this.config.url).hostname})`;
	}

	private end(why: string): void {
		if (this.closed) return;
		this.close();
		this.owner.gone(why);
	}
}
