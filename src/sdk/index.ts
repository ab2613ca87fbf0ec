/** What plugin authors import: `import { RestyTsError, type CallContext } from "resty-ts"`. */
export type { CallContext, Log } from "./context.js";
export { errorCodes, type ErrorCode } from "./error-codes.js";
export { RestyTsError } from "./errors.js";
