/**
 * The cases that the kit and a real nginx must agree on, so that a test with the kit tells how a
 * plugin works in a worker: test/ts/testing and test/integration/http/kit-cases.test.ts run them.
 */
import type { Case } from "./case.ts";
import { chainCases } from "./cases-chain.ts";
import { decisionCases } from "./cases-decisions.ts";
import { earlyCases } from "./cases-early.ts";
import { formCases } from "./cases-forms.ts";
import { fieldCases } from "./cases-fields.ts";
import { lastCases } from "./cases-last.ts";
import { mistakeCases } from "./cases-mistakes.ts";
import { requestCases } from "./cases-request.ts";
import { responseCases } from "./cases-response.ts";

export const cases: readonly Case[] = [
  ...requestCases,
  ...formCases,
  ...mistakeCases,
  ...fieldCases,
  ...earlyCases,
  ...responseCases,
  ...chainCases,
  ...decisionCases,
  ...lastCases,
];

/** By which nginx and the upstream know the case. */
export function hostOf(index: number): string {
  return `case-${index}.test`;
}
