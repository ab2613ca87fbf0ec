// Plugins that are as many as a plot wants, one a file: each sets a request field of its own.
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { PROJECT_DIR } from "../support.ts";

/** TypeScript and JavaScript alike. */
function textOf(number: number): string {
  return `import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-link-${number}",
  priority: ${-number},
  access(ctx) {
    ctx.request.headers.set("x-link-${number}", ctx.request.headers.get("x-request-id") ?? "");
  },
});
`;
}

/** Returns the plugins' folder. */
export function writeLinks(dir: string, count: number, extension: "ts" | "mjs"): string {
  const folder = join(dir, `links-${count}-${extension}`);
  mkdirSync(join(folder, "node_modules"), { recursive: true });
  // For what is not compiled.
  symlinkSync(PROJECT_DIR, join(folder, "node_modules", "resty-ts"));
  for (let number = 1; number <= count; number += 1) {
    writeFileSync(join(folder, `bench-link-${number}.${extension}`), textOf(number));
  }
  return folder;
}
