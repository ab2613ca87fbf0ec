/** What `resty-ts dev` prints of its nginx: requests from its stdout, the error log from its stderr. */
import type { Colours } from "../colour.js";
import type { DevEvent } from "./nginx-config.js";

const shownMs = (ms: number): string => `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;

/** @returns a line for people; undefined: none. */
export function shownEvent(event: DevEvent, paint: Colours): string | undefined {
  if (event.event !== "request") return undefined;
  const { method, uri, status, ms, phases } = event;
  const colour = status >= 500 ? paint.red : status >= 400 ? paint.yellow : paint.green;
  const parts = Object.entries(phases).map(([name, each]) => `${name} ${shownMs(each)}`);
  const times = parts.length === 0 ? "" : `  ${paint.grey(parts.join(", "))}`;
  return `${colour(String(status))} ${method} ${uri} ${shownMs(ms)}${times}`;
}

const LINE = /^\d{4}\/\d\d\/\d\d [\d:]+ \[(\w+)\] [\d#]+: (?:\*\d+ )?(.*)$/s;
/** nginx's own part at the end of a line. */
const REQUEST = /, (?:client: [^,]*, server: .*|context: ngx\.timer)$/;
const OWN = /^(?:\[lua\] [^ ]+ (?:\w+\(\): )?)?(resty\.ts: .*)$/s;

/** Error-log lines as they come; what a line's level says goes for those below it, too. */
export class ErrorLog {
  #isShown = true;

  /** @returns the line for people; undefined: it is nginx's own business. */
  shown(line: string, paint: Colours): string | undefined {
    const [, level = "", text = ""] = LINE.exec(line) ?? [];
    if (level === "") return this.#isShown ? line.replace(REQUEST, "") : undefined;
    const isGrave = !["notice", "info", "debug"].includes(level);
    const own = OWN.exec(text)?.[1];
    this.#isShown = isGrave || own !== undefined;
    if (!this.#isShown) return undefined;
    const colour = level === "warn" ? paint.yellow : isGrave ? paint.red : paint.grey;
    return `${colour(level)} ${(own ?? text).replace(REQUEST, "")}`;
  }
}
