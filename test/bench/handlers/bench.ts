// The TypeScript side of the benchmark: what the `ts` target and ring.lua call.

export function echo(text: string): string {
  return text;
}

/** Gets all request headers, answers with the response headers to set. */
export function header(headers: Record<string, string>): Record<string, string> {
  return { "x-reply": headers["x-user-id"] ?? "" };
}

/** Keeps the JavaScript thread busy, as CPU-bound work does. */
export function burn(ms: number): number {
  const end = performance.now() + ms;
  let turns = 0;
  while (performance.now() < end) turns += 1;
  return turns;
}

export function nothing(): void {
  // Only the call itself is measured.
}
