/** Where this package is, installed or in its own source tree. */
import { fileURLToPath } from "node:url";

/** Its folder's path, with a slash at its end. */
export const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
