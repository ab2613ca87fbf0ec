/** How a command of `resty-ts` ends. */

/** docs/cli.md has them. */
export const ExitCode = { ok: 0, wrong: 1, usage: 2 } as const;

/** A command cannot be carried out as it was given. Its message is all that is told of it. */
export class UsageError extends Error {}

/** Something is wrong with a plugin, a configuration or the machine. Its message is all that is told of it. */
export class WrongError extends Error {}

/** Ends the process once stdout has all of it: a plugin may have left something open. */
export function finish(code: number, output = ""): void {
  process.stdout.write(output, () => process.exit(code));
}
