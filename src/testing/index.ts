/** Unit tests of plugins without nginx: `import { testPlugin } from "resty-ts/testing"`. */
export { testChain, testPlugin } from "./kit.js";
export type * from "./types.js";
