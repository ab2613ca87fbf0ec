/** What plugin authors import: `import { definePlugin, Type } from "resty-ts"`. */
export { Type, type Static } from "@sinclair/typebox";
export type * from "./apisix.js";
export type { CallContext, Log } from "./context.js";
export { errorCodes, type ErrorCode } from "./error-codes.js";
export { RestyTsError } from "./errors.js";
export type * from "./http.js";
export {
  definePlugin,
  type ConfigOf,
  type ConfigSchema,
  type Instance,
  type Needs,
  type Phase,
  type PhaseOptions,
  type Plugin,
  type PluginDefinition,
  type Policies,
  type Policy,
  type ResponseHeaders,
  type SetupContext,
} from "./plugin.js";
export type { StandardIssue, StandardResult, StandardSchemaV1 } from "./standard-schema.js";
