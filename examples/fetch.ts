// Asynchronous handlers: nginx serves others while these wait.
import { setTimeout as sleep } from "node:timers/promises";
import type { CallContext } from "resty-ts";

/** The signal fires when the caller no longer waits: its deadline has passed, or its client left. */
export async function titles(this: CallContext, urls: string[]): Promise<string[]> {
  const signal = this.signal;
  return Promise.all(
    urls.map(async (url) => {
      const response = await fetch(url, { signal });
      return /<title>(.*?)<\/title>/i.exec(await response.text())?.[1] ?? "no title";
    }),
  );
}

export async function wait(this: CallContext, ms: number): Promise<string> {
  await sleep(ms, undefined, { signal: this.signal });
  return `waited ${ms} ms`;
}
