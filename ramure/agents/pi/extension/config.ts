// Reads what this launch needs from the file that RAMURE_AGENT_CONFIG names. The file has mode 0600 and holds the
// only secret, the token: nothing secret is in argv or in the environment.

import { readFileSync } from "node:fs";

export const CONFIG_VARIABLE = "RAMURE_AGENT_CONFIG";

export interface Config {
	/** Where the run's gateway listens: ws://host:port */
	url: string;
	/** The secret of this launch. */
	token: string;
	/** The agent's address in the run. */
	agent: string;
	/** The id of this launch; a restart is another launch. */
	launch: string;
	/** Seconds without the run after which pi is ended. */
	grace: number;
	/** Seconds between our pings. */
	heartbeat: number;
	/** Seconds without any frame from the run after which the connection counts as dead. */
	silence: number;
}

const NUMBERS = { grace: 10, heartbeat: 2, silence: 8 } as const;
const TEXTS = ["url", "token", "agent", "launch"] as const;

/** The configuration, or throws with a text for the screen. */
export function loadConfig(path: string | undefined): Config {
	if (!path) throw new Error(`${CONFIG_VARIABLE} is not set; this extension is started by a ramure run, not by hand`);
	let raw: Record<string, unknown>;
	try {
		raw = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
	} catch (error) {
		throw new Error(`cannot read the agent configuration ${path}: ${error instanceof Error ? error.message : error}`);
	}
	const config: Record<string, unknown> = {};
	for (const key of TEXTS) {
		const value = raw[key];
		if (typeof value !== "string" || value === "") throw new Error(`${path}: "${key}" must be a text, not ${JSON.stringify(value)}`);
		config[key] = value;
	}
	for (const [key, usual] of Object.entries(NUMBERS)) {
		const value = raw[key] ?? usual;
		if (typeof value !== "number" || !(value > 0)) throw new Error(`${path}: "${key}" must be a positive number of seconds`);
		config[key] = value;
	}
	return config as unknown as Config;
}
