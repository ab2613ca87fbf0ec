/**
 * When which calls may fail, and how: what a fault costs by design. A failure that no window has
 * is the suite's finding.
 */
import { now } from "./tally.js";

/** What a call got in place of its answer. */
export interface Outcome {
  kind: string;
  /** A code of docs/errors.md; "refused": a plugin's policy has answered; "cut": the connection has. */
  code: string;
  /** The worker that had it, if that is known. */
  worker: number | undefined;
  from: number;
  to: number;
}

export interface Allowance {
  codes: string[];
  /** Of calls; all when left out. */
  kinds?: string[];
  /** All when left out. */
  worker?: number;
}

interface Window extends Allowance {
  from: number;
  to: number;
}

/** An end is noticed later than it was. */
const SLACK_MS = 50;
const KEPT_MS = 60_000;

export class Windows {
  #list: Window[] = [];

  /** @returns what closes it. */
  open(allowance: Allowance): () => void {
    const window = { ...allowance, from: now() - SLACK_MS, to: Infinity };
    this.#list = this.#list.filter((one) => one.to > now() - KEPT_MS);
    this.#list.push(window);
    return () => {
      window.to = now() + SLACK_MS;
    };
  }

  excuse({ kind, code, worker, from, to }: Outcome): boolean {
    return this.#list.some(
      (window) =>
        window.codes.includes(code) &&
        (window.kinds?.includes(kind) ?? true) &&
        (window.worker === undefined || worker === undefined || window.worker === worker) &&
        window.from < to &&
        window.to > from,
    );
  }
}
