/** What doctor has found. */

export type Level = "ok" | "warning" | "fault";

export interface Finding {
  /** What was looked at: "nginx", "libnode". */
  readonly check: string;
  readonly level: Level;
  readonly text: string;
  /** What to do; of all but "ok". */
  readonly cure?: string;
}

export const ok = (check: string, text: string): Finding => ({ check, level: "ok", text });

export const warning = (check: string, text: string, cure: string): Finding => ({
  ...{ check, level: "warning", text, cure },
});

export const fault = (check: string, text: string, cure: string): Finding => ({
  ...{ check, level: "fault", text, cure },
});
