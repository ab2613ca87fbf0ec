/**
 * Response fields that follow from a plugin's configuration alone (`responseHeaders`): the changes
 * that Lua makes of each response, without a call.
 *
 * Thread: the environment's own. Invariant: what is refused of a handler is refused here, too.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Plugin } from "../sdk/plugin.js";
import { fieldName } from "./field-names.js";
import type { Head } from "./head.js";
import { ResponseImpl } from "./response.js";
import { refuse } from "./validate.js";

/** Of no response in particular. */
const HEAD = { status: 0, responseFields: () => ({ text: "", offsets: [0] }) } as unknown as Head;
const NONE: readonly unknown[] = [];

/** @throws {TypeError} */
function fieldsOf(returned: unknown): [name: string, value: unknown][] {
  if (typeof returned === "object" && returned !== null) {
    const prototype: unknown = Object.getPrototypeOf(returned);
    if (prototype === null || prototype === Object.prototype) return Object.entries(returned);
  }
  const what = Object.prototype.toString.call(returned).slice("[object ".length, -1);
  throw new TypeError(
    `it returned ${what}: expected a plain object, { "x-frame-options": "DENY" } say`,
  );
}

function changesOf(returned: unknown): readonly unknown[] {
  const changes: unknown[] = [];
  const owner = {
    head: HEAD,
    responseIsFixed: undefined,
    filtersBody: true,
    checkOpen: () => undefined,
    change: (...change: unknown[]) => void changes.push(...change),
  };
  const { headers } = new ResponseImpl(owner, undefined);
  for (const [name, value] of fieldsOf(returned)) {
    if (value === undefined) continue;
    const { lower, isSingleInResponses } = fieldName(name);
    if (lower === "content-encoding") {
      refuse("content-encoding follows from the body: a headerFilter sees it, and may change it");
    }
    // Of several lines that the upstream sends nginx would replace one.
    if (value === null || isSingleInResponses) headers.delete(name);
    if (value !== null) headers.set(name, value as string);
  }
  return changes;
}

/**
 * @returns changes as in docs/http-protocol.md.
 * @throws {RestyTsError} "handler_failed": responseHeaders has thrown, or returned what is refused.
 */
export function declaredFields(plugin: Plugin, conf: unknown): readonly unknown[] {
  if (plugin.responseHeaders === undefined) return NONE;
  try {
    return changesOf(plugin.responseHeaders(conf));
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    const text = `${plugin.name}: responseHeaders failed: ${what}`;
    throw new RestyTsError("handler_failed", text, { cause: error });
  }
}
