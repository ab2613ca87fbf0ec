/**
 * `import … from "resty-ts"` in TypeScript that the host compiles is the host's own SDK: no package
 * has to be installed beside a plugin, and there is one of each class.
 *
 * Thread: the environment's own.
 */
import * as sdk from "../sdk/index.js";

const KEY = "resty-ts.sdk";

/** Makes the SDK available to sdkModuleText's modules. */
export function provideSdk(): void {
  (globalThis as Record<symbol, unknown>)[Symbol.for(KEY)] = sdk;
}

/** The text of an ES module that exports it. */
export function sdkModuleText(): string {
  const names = Object.keys(sdk).filter((name) => name !== "default");
  return (
    `const sdk = globalThis[Symbol.for(${JSON.stringify(KEY)})];\n` +
    `export const { ${names.join(", ")} } = sdk;\n`
  );
}
