/**
 * Runs what compile.ts makes, as a CommonJS module of Node's that no cache of Node's knows: it goes
 * when nothing of it is used any more, with its source map. Dynamic `import` and `require` work in it.
 *
 * Thread: the environment's own.
 */
import { createRequire, Module } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Compiled } from "./compile.js";
import { importExternal, type Namespace } from "./externals.js";

type Script = (
  this: undefined,
  imports: Readonly<Record<string, Namespace>>,
  meta: Readonly<Record<string, unknown>>,
  done: (namespace: Namespace) => void,
  require: NodeJS.Require,
  filename: string,
  dirname: string,
) => Promise<void>;

interface CompilingModule extends NodeJS.Module {
  _compile(text: string, filename: string, format: "commonjs"): unknown;
}

/** The namespace, with the mark by which esbuild's helpers take its `default` for the default. */
function given(namespace: Namespace): Namespace {
  const marked: Namespace = Object.defineProperty({}, "__esModule", { value: true });
  for (const name of Object.keys(namespace)) {
    if (name === "__esModule") continue;
    Object.defineProperty(marked, name, { enumerable: true, get: () => namespace[name] });
  }
  return marked;
}

/** File -> numbers of its scripts that may still be in use. */
const taken = new Map<string, Set<number>>();
const gone = new FinalizationRegistry<{ file: string; number: number }>(({ file, number }) => {
  const numbers = taken.get(file)!;
  numbers.delete(number);
  if (numbers.size === 0) taken.delete(file);
});

/**
 * The name of a script: one that no other has, as by it Node finds the source map of a stack's
 * frame. And one that others had before: Node 18 keeps for ever the last map of each name.
 */
function nameOf(file: string, module: NodeJS.Module): string {
  const numbers = taken.get(file) ?? new Set();
  taken.set(file, numbers);
  let number = 1;
  while (numbers.has(number)) number++;
  numbers.add(number);
  gone.register(module, { file, number });
  return `${file}@${number}.mjs`;
}

/**
 * @param file absolute path of the source.
 * @returns its exports, once its top level has run.
 * @throws what it throws.
 */
export async function evaluate(file: string, { text, imports }: Compiled): Promise<Namespace> {
  const namespaces: Record<string, Namespace> = {};
  // In their order, one after the other, as Node does.
  for (const url of imports) namespaces[url] = given(await importExternal(url));

  const module = new Module(file) as CompilingModule;
  const name = nameOf(file, module);
  module.id = module.filename = name;
  module.paths = [];
  module._compile(text, name, "commonjs");
  const script = module.exports as Script;
  module.exports = undefined;

  const dirname = path.dirname(file);
  const meta = { url: pathToFileURL(file).href, filename: file, dirname };
  let exported: Namespace | undefined;
  const done = (namespace: Namespace): void => {
    exported = namespace;
  };
  await script.call(undefined, namespaces, meta, done, createRequire(file), file, dirname);
  return exported!;
}
