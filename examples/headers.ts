// Called from header_filter_by_lua*, which cannot wait: a short synchronous call (ts.call_sync).
let served = 0;

export function stamp(contentType: string): Record<string, string> {
  served++;
  return { "x-served-by": "ts", "x-served": String(served), "x-content-type": contentType };
}

/** Called from log_by_lua* with ts.notify: nobody waits for it. console goes to nginx's error log. */
export function record(method: string, path: string, status: number): void {
  console.info("%s %s %d", method, path, status);
}
