// Writes docs/api, the reference of what plugin authors import, from the comments in src/sdk and src/testing; with --check
// proves that it is fresh. In both an exported item without a comment, or a link that leads nowhere, is an error.
//   npm run docs [-- --check]
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Application, LogLevel, ReflectionKind } from "typedoc";
import { exists, Failure, inRoot, script } from "./lib/run.mjs";

const OUT = "docs/api";

/** What package.json exports, and its source. */
const ENTRIES = [
  { name: "resty-ts", file: "src/sdk/index.ts" },
  { name: "resty-ts/testing", file: "src/testing/index.ts" },
].filter(({ file }) => exists(inRoot(file)));

/** TypeDoc's default has no constructors. @type {import("typedoc").ReflectionKind.KindString[]} */
const REQUIRED = [
  .../** @type {const} */ (["Class", "Constructor", "Enum", "EnumMember", "Function", "Interface"]),
  .../** @type {const} */ (["Accessor", "Method", "Property", "TypeAlias", "Variable"]),
];

/** @param {string} text one newline at the end, none before others */
const tidy = (text) => `${text.replace(/[ \t]+$/gm, "").trimEnd()}\n`;

/** The plugin leaves out what stands in braces: which error it is. @param {import("typedoc").ProjectReflection} project */
function showErrors(project) {
  for (const { comment } of project.getReflectionsByKind(ReflectionKind.All)) {
    for (const tag of comment?.blockTags ?? []) {
      if (tag.tag !== "@throws") continue;
      const type = tag.typeAnnotation ?? "";
      delete tag.typeAnnotation;
      tag.content.unshift({ kind: "text", text: type === "" ? "" : `${type} ` });
      for (const part of tag.content) part.text = part.text.replace(/\{(\w+)\}/g, "$1:");
    }
  }
}

/** TypeDoc empties the folder that it writes to: it never gets one of ours. @param {string} folder */
async function render(folder) {
  /** The plugin has options that TypeDoc's type lacks. @type {import("typedoc").TypeDocOptions & Record<string, unknown>} */
  const options = {
    entryPoints: ENTRIES.map(({ file }) => inRoot(file)),
    tsconfig: inRoot("tsconfig.build.json"),
    plugin: ["typedoc-plugin-markdown"],
    // One output alone: without it the plugin writes to ./docs.
    outputs: [{ name: "markdown", path: folder }],
    outputFileStrategy: "modules",
    hideBreadcrumbs: true,
    hidePageHeader: true,
    parametersFormat: "table",
    name: "API reference",
    readme: "none",
    // tsc looks for errors, in a check of its own.
    skipErrorChecking: true,
    disableSources: true,
    excludeExternals: true,
    excludePrivate: true,
    sort: ["source-order"],
    groupOrder: ["Functions", "Classes", "Interfaces", "Type Aliases", "Variables"],
    preservedTypeAnnotationTags: ["@throws"],
    validation: { notExported: true, invalidLink: true, notDocumented: true },
    requiredToBeDocumented: REQUIRED,
    // What handlers return, spelled out where they are described.
    intentionallyNotExported: ["Result", "Sync"],
    treatWarningsAsErrors: true,
    logLevel: LogLevel.Warn,
  };
  const app = await Application.bootstrapWithPlugins(options);
  const project = await app.convert();
  if (project === undefined) throw new Failure("the sources do not compile: `npx tsc`");
  const modules = ENTRIES.length === 1 ? [] : (project.children ?? []);
  for (const [i, module] of modules.entries()) module.name = ENTRIES[i]?.name ?? module.name;
  app.validate(project);
  if (app.logger.hasErrors() || app.logger.hasWarnings()) {
    throw new Failure("the reference has errors: see above");
  }
  showErrors(project);
  await app.generateOutputs(project);
}

/** The files below a folder by their relative paths. @param {string} folder */
function filesOf(folder) {
  const names = existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()
    : [];
  return new Map(
    names
      .filter((name) => name.endsWith(".md"))
      .map((name) => [name, readFileSync(path.join(folder, name), "utf8")]),
  );
}

await script(async () => {
  const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
  const scratch = mkdtempSync(path.join(os.tmpdir(), "resty-ts-docs-"));
  try {
    await render(path.join(scratch, "api"));
    const made = new Map(
      [...filesOf(path.join(scratch, "api"))].map(([name, text]) => [name, tidy(text)]),
    );
    if (made.size === 0) throw new Failure("TypeDoc wrote nothing");
    const now = filesOf(inRoot(OUT));
    const stale = [...made].filter(([name, text]) => now.get(name) !== text).map(([name]) => name);
    const extra = [...now.keys()].filter((name) => !made.has(name));
    if (values.check) {
      const problems = [...stale, ...extra].map(
        (name) => `${OUT}/${name}: stale; run \`npm run docs\``,
      );
      if (problems.length > 0) throw new Failure(problems.join("\n"));
      return;
    }
    for (const name of extra) rmSync(inRoot(OUT, name));
    for (const name of stale) {
      const file = inRoot(OUT, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, made.get(name) ?? "");
      console.log(`${OUT}/${name}`);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
