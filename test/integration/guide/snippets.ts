/** TypeScript of the documents, compiled as strictly as the guide's own tsconfig.json has it. */
import { join } from "node:path";
import ts from "typescript";
import { PROJECT_ROOT } from "../../support/project.js";

/** What stands alone is a module; the rest is the body of a handler. */
export function moduleOf(code: string): string {
  if (code.includes("export default")) return code;
  return `
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { definePlugin, type Exit } from "resty-ts";
export const used = [createHash, sleep];
export default definePlugin({
  name: "fragment",
  async access(ctx): Promise<Response | Exit | undefined> {
    ${code}
    return undefined;
  },
});`;
}

/** The compiler's complaints. @param sources by file; none is written. */
export function compile(sources: Map<string, string>): string[] {
  const file = join(PROJECT_ROOT, "tsconfig.json");
  const config = ts.parseJsonConfigFileContent(
    (ts.readConfigFile(file, (name) => ts.sys.readFile(name)) as { config: unknown }).config,
    ts.sys,
    PROJECT_ROOT,
  );
  // As strict as the guide's tsconfig.json.
  const options = { ...config.options, noUnusedLocals: false, noImplicitReturns: false };
  const host = ts.createCompilerHost(options);
  const own = { ...host };
  host.readFile = (name) => sources.get(name) ?? own.readFile(name);
  host.fileExists = (name) => sources.has(name) || own.fileExists(name);
  host.getSourceFile = (name, ...rest) => {
    const source = sources.get(name);
    return source === undefined
      ? own.getSourceFile(name, ...rest)
      : ts.createSourceFile(name, source, ts.ScriptTarget.ES2022);
  };
  const program = ts.createProgram([...sources.keys()], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ file: where, messageText }) => {
    const name = where?.fileName.replace(/^.*\//, "") ?? "";
    return `${name}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
  });
}
