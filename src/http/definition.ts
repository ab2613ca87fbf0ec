/** What a plugin's file must export, told in words when it does not. */
import { RestyTsError } from "../sdk/errors.js";
import type { Phase, Plugin, Policies, Policy } from "../sdk/plugin.js";
import { apisixProblems, hasWorkerPart } from "./apisix-definition.js";
import type { Hook } from "./chain.js";
import { checkSchema } from "./config.js";
import { HOOK_PHASES, PHASES, RESPONSE_HOOK_PHASES, SYNC_PHASES, takesPart } from "./phases.js";
import { isRunnerPlugin, runnerPlugin, takesText } from "./runner.js";

const NAME = /^[a-z][a-z0-9_-]{0,127}$/;
const KEYS = new Set<string>([
  ...PHASES,
  "name",
  "version",
  "priority",
  "schema",
  "needs",
  "policies",
  "idempotent",
  "phases",
  "bufferResponse",
  "apisix",
  "responseHeaders",
  "setup",
  "teardown",
  "handoff",
]);
const ASYNC = new Set(["AsyncFunction", "AsyncGeneratorFunction", "GeneratorFunction"]);

export function isPluginName(name: unknown): name is string {
  return typeof name === "string" && NAME.test(name);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isPolicy(value: unknown): value is Policy {
  return (
    value === "closed" ||
    value === "open" ||
    (Number.isInteger(value) && (value as number) >= 400 && (value as number) <= 599)
  );
}

function policyProblems(policies: unknown, where: string): string[] {
  if (policies === undefined) return [];
  if (!isObject(policies)) return [`${where} is an object`];
  const problems: string[] = [];
  const names: (keyof Policies)[] = ["onError", "onTimeout", "onOverload"];
  for (const [key, value] of Object.entries(policies)) {
    if (key === "timeoutMs" && where !== "policies") {
      if (!Number.isInteger(value) || (value as number) < 1) {
        problems.push(`${where}.timeoutMs is a whole number of milliseconds from 1 on`);
      }
    } else if (!(names as string[]).includes(key)) {
      problems.push(`${where} has no option ${key}: ${names.join(", ")}`);
    } else if (!isPolicy(value)) {
      problems.push(`${where}.${key} is "closed", "open" or a status from 400 to 599`);
    }
  }
  return problems;
}

function listProblems(value: unknown, where: string, pattern: RegExp): string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every((item) => typeof item === "string" && pattern.test(item)))
    return [];
  return [`${where} is an array of names`];
}

function keyProblems(value: object, where: string, keys: readonly string[]): string[] {
  return Object.keys(value)
    .filter((key) => !keys.includes(key))
    .map((key) => `${where} has no option ${key}: ${keys.join(", ")}`);
}

function problemsOf(plugin: Record<string, unknown>, expected: string): string[] {
  const problems: string[] = [];
  const { name, priority, version, needs, phases, bufferResponse, schema } = plugin;
  if (name !== expected) {
    problems.push(`its name is ${JSON.stringify(name)}, and its file is ${expected}`);
  }
  for (const key of Object.keys(plugin)) {
    if (!KEYS.has(key)) problems.push(`there is no option or phase ${key}`);
  }
  if (priority !== undefined && !Number.isFinite(priority)) problems.push("priority is a number");
  if (version !== undefined && typeof version !== "string") problems.push("version is a string");
  for (const key of [...PHASES, "responseHeaders", "setup", "teardown", "handoff"]) {
    const handler = plugin[key];
    if (handler === undefined) continue;
    if (typeof handler !== "function") problems.push(`${key} is a function`);
    else if ((SYNC_PHASES as Set<string>).has(key) && ASYNC.has(handler.constructor.name)) {
      problems.push(
        `${key} is an ${handler.constructor.name}, and the phase cannot wait: make it a plain ` +
          "function, and do what takes time in access",
      );
    }
  }
  const takesAny = [...PHASES, "responseHeaders"].some((key) => typeof plugin[key] === "function");
  if (!takesAny && !hasWorkerPart(plugin)) {
    problems.push(`it has no handler: ${PHASES.join(", ")}; and no responseHeaders`);
  }
  if (needs !== undefined) {
    if (!isObject(needs)) problems.push("needs is an object");
    else {
      problems.push(...keyProblems(needs, "needs", ["vars", "ctx"]));
      problems.push(...listProblems(needs["vars"], "needs.vars", /^[A-Za-z0-9_]+$/));
      problems.push(...listProblems(needs["ctx"], "needs.ctx", /./));
    }
  }
  problems.push(...policyProblems(plugin["policies"], "policies"));
  if (!["undefined", "boolean"].includes(typeof plugin["idempotent"])) {
    problems.push("idempotent is true or false");
  }
  if (phases !== undefined) {
    if (!isObject(phases)) problems.push("phases is an object");
    for (const [phase, options] of Object.entries(isObject(phases) ? phases : {})) {
      if (!(PHASES as string[]).includes(phase)) problems.push(`there is no phase ${phase}`);
      else problems.push(...policyProblems(options, `phases.${phase}`));
    }
  }
  if (bufferResponse !== undefined) {
    const most = isObject(bufferResponse) ? bufferResponse["maxBytes"] : undefined;
    if (isObject(bufferResponse)) {
      problems.push(...keyProblems(bufferResponse, "bufferResponse", ["maxBytes"]));
    }
    if (!Number.isInteger(most) || (most as number) < 1) {
      problems.push("bufferResponse.maxBytes is a whole number of bytes from 1 on");
    }
    if (plugin["bodyFilter"] === undefined) problems.push("bufferResponse is for bodyFilter");
  }
  if (schema !== undefined) {
    if (!isObject(schema) && typeof schema !== "function") problems.push("schema is an object");
    else {
      try {
        checkSchema(schema);
      } catch (error) {
        problems.push(`schema does not compile: ${(error as Error).message}`);
      }
    }
  }
  problems.push(...apisixProblems(plugin["apisix"]));
  return problems;
}

/**
 * Whether one of APISIX's hooks has any use for the plugin.
 *
 * @param hook true: it is not known which.
 * @throws {RestyTsError} "bad_plugin" when it has none.
 */
export function checkHook(plugin: Plugin, hook: true | Hook): void {
  if (hook === true) return;
  const phases: readonly Phase[] = hook === "post-resp" ? RESPONSE_HOOK_PHASES : HOOK_PHASES;
  if (phases.some((phase) => takesPart(plugin, phase))) return;
  const why = takesText(plugin)
    ? "it is written for APISIX's JavaScript runner, whose filter runs before the upstream: list it " +
      "in ts-plugin-pre-req or ts-plugin-post-req"
    : `it has no handler for one of these phases: ${phases.join(", ")}`;
  throw new RestyTsError("bad_plugin", `${plugin.name} does nothing in ts-plugin-${hook}: ${why}`);
}

/**
 * @param value what the file exports as default.
 * @param name the file's name without its ending.
 * @throws {RestyTsError} "bad_plugin" with all that is wrong.
 */
export function checkDefinition(value: unknown, name: string): Plugin {
  if (isRunnerPlugin(value)) return runnerPlugin(value, name);
  if (!isObject(value)) {
    throw new RestyTsError(
      "bad_plugin",
      `${name}: its default export is ${value === undefined ? "missing" : `a ${typeof value}`}: ` +
        "`export default definePlugin({ … })`",
    );
  }
  const problems = problemsOf(value, name);
  if (problems.length > 0) throw new RestyTsError("bad_plugin", `${name}: ${problems.join("; ")}`);
  return value as unknown as Plugin;
}
