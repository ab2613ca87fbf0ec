/**
 * A module and a plugin in many versions, each of which says which one it is, and what an answer of
 * theirs must be. Each is made of two files, so that a change may be in what is imported.
 *
 * Thread: the tests' own. Invariant: a version that was written broken never answers.
 */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { plugin } from "../support/plugin-phases.js";

export type Subject = "module" | "plugin";

/** Own text and imported text, each by the number of the step that wrote it. */
interface Version {
  own: number;
  lib: number;
}

const FILES = {
  module: { own: "modules/soak.ts", lib: "modules/lib/version.ts" },
  plugin: { own: "plugins/soak.ts", lib: "plugins/lib/version.ts" },
} as const;

const nameOf = ({ own, lib }: Version): string => `${String(own)}.${String(lib)}`;

/** Lets figures.ts count the versions that are still in memory. */
const counted = (subject: Subject): string => `
const marker = {};
((globalThis as any).soakAlive ??= []).push(["${subject}", new WeakRef(marker)]);`;

const libText = (n: number): string => `export const lib = ${String(n)};\n`;

const moduleText = (n: number): string => `
import { lib } from "./lib/version.ts";
${counted("module")}
let handed = 1;
export const handoff = (): number => handed;
export const takeover = (before: number): void => { handed = before + 1; };
export const keep = () => marker;
export function f(x: number): unknown {
  const answer = \`\${x} ${String(n)}.\${lib} \${handed}\`;
  return x % 2 === 0 ? answer : new Promise((resolve) => setTimeout(resolve, 2, answer));
}
`;

/** Phases, needs and the schema differ from one version to the next. */
const pluginText = (n: number): string => `
import { lib } from "./lib/version.ts";
${counted("plugin")}
const version = \`${String(n)}.\${lib}\`;
${plugin(`
  name: "soak",
  version,
  schema: {
    type: "object",
    properties: { where: { type: "string" }, added: { type: "number", default: ${String(n)} } },
  },
  needs: { vars: ${n % 3 === 0 ? '["request_method"]' : '["host", "request_method"]'} },
  setup(conf, { previous }) {
    if (conf.added !== ${String(n)}) throw new Error("the configuration is another version's");
    return { handed: ((previous as number | undefined) ?? 0) + 1, marker };
  },
  handoff: ({ state }) => state.handed,
  async access(ctx) {
    ctx.local.set("begun", version);
    if (ctx.vars.request_method !== "GET") throw new Error("the variables are another version's");
    if (ctx.request.query.has("wait")) await new Promise((resolve) => setTimeout(resolve, 2));
  },
  content(ctx, { state }) {
    if (ctx.request.path !== "/stream") return undefined;
    let piece = 0;
    return new Response(new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        controller.enqueue(new TextEncoder().encode(version + " "));
        if (++piece === 3) controller.close();
      },
    }));
  },
  headerFilter(ctx, { state }) {
    ctx.response.headers.set("x-soak", \`\${ctx.local.get("begun")} \${version} \${state.handed}\`);
    ctx.response.headers.set("x-filtered", "${n % 2 === 0 ? "yes" : "no"}");
  },
  ${n % 2 === 0 ? 'bodyFilter(ctx) { return Buffer.from(ctx.chunk).toString() + (ctx.last ? "!" : ""); },' : ""}
  log() {},`)}
`;

const OWN = { module: moduleText, plugin: pluginText };

/** What is wrong with a file, for each of which a reload is to be refused. */
const BROKEN: Record<Subject, readonly ((text: string) => string)[]> = {
  module: [
    (text) => text.replace("export function f", "export function g"),
    (text) => `${text}\nthrow new Error("broken at its top");`,
    (text) => `${text}\nconst = 1;`,
    (text) => text.replace("handed = before + 1", 'throw new Error("broken takeover")'),
  ],
  plugin: [
    (text) => text.replace(/if \(conf\.added[^)]*\)/, "if (true)"),
    (text) => `${text}\nthrow new Error("broken at its top");`,
    (text) => text.replace('type: "object",', 'type: "object", required: ["missing"],'),
    (text) => `${text}\nexport {`,
  ],
};

export class Sources {
  readonly #prefix: string;
  readonly #current: Record<Subject, Version> = {
    module: { own: 1, lib: 1 },
    plugin: { own: 1, lib: 1 },
  };
  /** Subject and version -> its place among the good ones, which is how often it was handed over. */
  readonly #places = new Map<string, number>([
    ["module 1.1", 1],
    ["plugin 1.1", 1],
  ]);
  readonly #last: Record<Subject, number> = { module: 1, plugin: 1 };

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** The files of the first versions, by their paths below the prefix. */
  static first(): Record<string, string> {
    const files: Record<string, string> = {};
    for (const subject of ["module", "plugin"] as const) {
      files[FILES[subject].own] = OWN[subject](1);
      files[FILES[subject].lib] = libText(1);
    }
    return files;
  }

  /** Writes the next version. @param part where the change is. */
  change(subject: Subject, part: "own" | "lib", step: number): void {
    this.#current[subject][part] = step;
    this.#places.set(`${subject} ${nameOf(this.#current[subject])}`, ++this.#last[subject]);
    this.restore(subject);
  }

  /** Writes a next version that does not work. */
  break(subject: Subject, step: number): void {
    const kinds = BROKEN[subject];
    const text = OWN[subject](step);
    const broken = kinds[step % kinds.length]!(text);
    if (broken === text) throw new Error(`${subject}: nothing was broken`);
    this.#write(FILES[subject].own, broken);
  }

  /** Writes the last version that works. */
  restore(subject: Subject): void {
    const { own, lib } = this.#current[subject];
    this.#write(FILES[subject].own, OWN[subject](own));
    this.#write(FILES[subject].lib, libText(lib));
  }

  /** The place of the newest good version. */
  last(subject: Subject): number {
    return this.#last[subject];
  }

  /**
   * @param said the version that answered, and how often its state has been handed over.
   * @param least the place of the oldest version that may answer.
   * @param isNew whether a worker begins with it, so that nothing is handed over.
   * @returns what is wrong with that, or undefined.
   */
  judge(subject: Subject, said: string, least: number, isNew: boolean): string | undefined {
    const [version, handed] = said.split(" ") as [string, string?];
    const place = this.#places.get(`${subject} ${version}`);
    if (place === undefined) return `${subject} ${version} was never to answer`;
    if (place < least) return `${subject} ${version} answered after a newer one was in place`;
    const expected = String(isNew ? 1 : place);
    return handed === expected
      ? undefined
      : `${subject} ${version} was handed over ${String(handed)} times, not ${expected}`;
  }

  #write(file: string, text: string): void {
    const whole = join(this.#prefix, file);
    // Nobody may read half of it.
    const temporary = `${whole}.new`;
    writeFileSync(temporary, text);
    renameSync(temporary, whole);
  }
}
