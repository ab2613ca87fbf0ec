/** All plugins of the suite, for the kit; nginx finds them by their files. */
export { default as answers } from "./plugins/answers.ts";
export { default as asks } from "./plugins/asks.ts";
export { default as edits } from "./plugins/edits.ts";
export { default as fails } from "./plugins/fails.ts";
export { default as filters } from "./plugins/filters.ts";
export { default as keeps } from "./plugins/keeps.ts";
export { default as later } from "./plugins/later.ts";
export { default as looks } from "./plugins/looks.ts";
export { default as mark1 } from "./plugins/mark-1.ts";
export { default as mark2 } from "./plugins/mark-2.ts";
export { default as mark3 } from "./plugins/mark-3.ts";
export { default as ops, type Op, type Ops } from "./plugins/ops.ts";
export { default as reads } from "./plugins/reads.ts";
export { default as refuses } from "./plugins/refuses.ts";
export { default as serves } from "./plugins/serves.ts";
export { default as shouts } from "./plugins/shouts.ts";
export { default as slow } from "./plugins/slow.ts";
export { default as whole } from "./plugins/whole.ts";
