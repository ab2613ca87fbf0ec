/**
 * The phases: their numbers in messages, their names in Lua, and what is legal in each
 * (docs/phases.md). The order of the numbers says nothing: later ones came later.
 *
 * Thread: any; no state.
 */
import type { Phase, Plugin } from "../sdk/plugin.js";

/** In a head: docs/http-protocol.md. */
export const PhaseNumber = {
  rewrite: 1,
  access: 2,
  content: 3,
  headerFilter: 4,
  bodyFilter: 5,
  log: 6,
  beforeProxy: 7,
  delayedBodyFilter: 8,
} as const satisfies Record<Phase, number>;

/** In the order in which a request goes through them. */
export const PHASES: readonly Phase[] = [
  "rewrite",
  "access",
  "beforeProxy",
  "content",
  "headerFilter",
  "bodyFilter",
  "delayedBodyFilter",
  "log",
];

export const LUA_NAMES: Readonly<Record<Phase, string>> = {
  rewrite: "rewrite",
  access: "access",
  beforeProxy: "before_proxy",
  content: "content",
  headerFilter: "header_filter",
  bodyFilter: "body_filter",
  delayedBodyFilter: "delayed_body_filter",
  log: "log",
};

/** What APISIX's hooks before the upstream run of a plugin, in this order. */
export const HOOK_PHASES: readonly Phase[] = ["rewrite", "access", "content"];

/** What its hook after the upstream runs. */
export const RESPONSE_HOOK_PHASES: readonly Phase[] = ["headerFilter", "bodyFilter", "log"];

/** Whether a plugin has anything to do in a phase: its responseHeaders are headerFilter's. */
export function takesPart(plugin: Plugin, phase: Phase): boolean {
  if (phase === "headerFilter" && plugin.responseHeaders !== undefined) return true;
  return plugin[phase] !== undefined;
}

/** Those that cannot wait. */
export const SYNC_PHASES: ReadonlySet<Phase> = new Set([
  "headerFilter",
  "bodyFilter",
  "delayedBodyFilter",
]);

/** Whether nothing was sent yet: the phase may wait, ask nginx, and answer the client. */
export function isBeforeAnswer(phase: number): boolean {
  return phase <= PhaseNumber.content || phase === PhaseNumber.beforeProxy;
}

/** Whether the phase gets pieces of the response's body. */
export function isBodyPhase(phase: number): boolean {
  return phase === PhaseNumber.bodyFilter || phase === PhaseNumber.delayedBodyFilter;
}

const ANSWERED = "the request has been answered";
const HEADER_SENT = "the response's header is sent: change it in headerFilter";

/** Why a phase may not change the request; the others may. */
export const FIXED_REQUEST: ReadonlyMap<number, string> = new Map([
  [PhaseNumber.headerFilter, `${ANSWERED}: headerFilter cannot change it`],
  [PhaseNumber.bodyFilter, `${ANSWERED}: bodyFilter cannot change it`],
  [PhaseNumber.delayedBodyFilter, `${ANSWERED}: delayedBodyFilter cannot change it`],
  [PhaseNumber.log, "the request is over: log cannot change it"],
]);

/** Why a phase may not change the response; the others may. */
export const FIXED_RESPONSE: ReadonlyMap<number, string> = new Map([
  [PhaseNumber.bodyFilter, HEADER_SENT],
  [PhaseNumber.delayedBodyFilter, HEADER_SENT],
  [PhaseNumber.log, "the response is sent: change it in headerFilter"],
]);
