/**
 * The bundle's entry. Embedded, native/runtime/embedded.cc calls `main`; run as a program, the host is
 * a process of its own.
 */
import { runProgram } from "./program.js";

export { main } from "./main.js";
export { runProgram } from "./program.js";

if (require.main === module) runProgram(process.argv.slice(2));
