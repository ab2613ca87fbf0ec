/**
 * One nginx that serves the same requests in several ways: without a plugin, with plugins that only
 * look, and with one that makes one change. What arrives is compared byte for byte.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Nginx, NginxOptions } from "../support/nginx.js";
import { PROJECT_ROOT } from "../support/project.js";
import { type Edit, compareResponse, compareUpstream, compareWhole } from "./edits.ts";
import { askedWhole, filtered, withoutLength } from "./filtered.ts";
import { type Head, replyBytes, requestBytes } from "./heads.ts";
import {
  exchange,
  type Message,
  parseResponses,
  RawUpstream,
  type Received,
  valuesOf,
  without,
} from "./raw.ts";
import { judge, rightView, type Saw } from "./saw.ts";

/** Of nginx's server block: what it makes of odd names and paths. */
export const VARIANTS = [
  "",
  "underscores_in_headers on; ignore_invalid_headers off;",
  "merge_slashes off;",
  "underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;",
] as const;

/** The chain of each way. */
const WAYS = {
  plain: undefined,
  reads: ["reads"],
  watches: ["reads", "watches"],
  tells: ["tells"],
  edits: ["edits", "reads"],
} as const;
type Way = keyof typeof WAYS;
const NAMES = Object.keys(WAYS) as Way[];
const PHASES = ["rewrite", "access", "body_filter", "log"];

/** What Lua code and maps see of the request's line in the end. */
const STATE = `
  local var, esc = ngx.var, ngx.escape_uri
  ngx.header["X-State"] = table.concat({ esc(var.uri), var.is_args, esc(var.args or ""),
                                         esc(var.request_method), esc(var.host) }, " ")`;

function serverOf(way: Way, variant: number, folder: string): string {
  const run = `require("resty.ts.http").run()`;
  const isPlain = WAYS[way] === undefined;
  return `server {
    listen unix:${folder}/${way}-${variant}.sock;
    ${VARIANTS[variant]!}
    client_body_buffer_size 16k;
    location / {
      set $edited "";
      set $resty_ts_route ${isPlain ? "off" : way};
      ${isPlain ? "" : PHASES.map((phase) => `${phase}_by_lua_block { ${run} }`).join("\n      ")}
      header_filter_by_lua_block { ${isPlain ? "" : run} ${STATE} }
      proxy_pass http://${way};
      proxy_set_header Host $http_host;
      proxy_set_header X-Edited $edited;
    }
  }`;
}

export function differentialOptions(folder: string, runtime: "embedded" | "process"): NginxOptions {
  const routes = NAMES.filter((way) => WAYS[way] !== undefined).map(
    (way) => `http.route("${way}", { ${WAYS[way]!.map((name) => `"${name}"`).join(", ")} })`,
  );
  return {
    ts: {
      plugins: join(PROJECT_ROOT, "test/differential/plugins"),
      runtime,
      timeout_ms: 10_000,
      sync_timeout_ms: 10_000,
    },
    initWorker: `local http = require "resty.ts.http"\n${routes.join("\n")}`,
    http: `
      large_client_header_buffers 8 128k;
      proxy_http_version 1.1;
      proxy_buffer_size 128k;
      proxy_buffers 8 128k;
      proxy_busy_buffers_size 256k;
      proxy_read_timeout 5s;
      client_body_timeout 2s;
      ${NAMES.map((way) => `upstream ${way} { server unix:${folder}/up-${way}.sock; }`).join("\n")}
      ${NAMES.flatMap((way) => VARIANTS.map((_, i) => serverOf(way, i, folder))).join("\n")}`,
    // Upstreams of which nginx thinks ill, in each way alike; what the plugins log is looked at here.
    allowLog: [/./],
  };
}

/** Closes the connection behind the requests, if they have left it open. */
const END = "GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n";
/** Has no fields, so no change is asked for. */
const NO_EDIT: Edit = { what: "kept", phase: "access", how: "set", name: "", value: "" };
/** nginx's own, which a second may pass in. */
const DATE = /\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n/g;

interface Seen {
  readonly received: readonly Received[];
  readonly answer: string;
}

/** What went wrong, with what is needed to see it. */
class Difference extends Error {
  override name = "Difference";
}

export class Rig {
  readonly #nginx: Nginx;
  readonly #folder: string;
  readonly #upstreams: Record<Way, RawUpstream>;
  #logged = 0;

  constructor(nginx: Nginx, folder: string, upstreams: Record<Way, RawUpstream>) {
    this.#nginx = nginx;
    this.#folder = folder;
    this.#upstreams = upstreams;
  }

  static async upstreams(folder: string): Promise<Record<Way, RawUpstream>> {
    const made = NAMES.map(
      (way) => [way, new RawUpstream(join(folder, `up-${way}.sock`))] as const,
    );
    await Promise.all(made.map(([, upstream]) => upstream.listen()));
    return Object.fromEntries(made) as Record<Way, RawUpstream>;
  }

  /** Sends the requests on one connection, in each way. @throws {Difference} */
  async try(heads: readonly Head[], variant: number): Promise<void> {
    const sent = heads.map(requestBytes).join("") + END;
    const replies = new Map(heads.map(({ reply }, n) => [String(n), replyBytes(reply)]));
    const [plain, ...others] = (await Promise.all(
      NAMES.map((way) => this.#send(way, variant, sent, replies)),
    )) as [Seen, ...Seen[]];
    const methods = [...heads.map(({ method }) => method), "GET"];
    for (const [i, seen] of others.entries()) {
      const way = NAMES[i + 1]!;
      const problem =
        way === "edits"
          ? this.#edited(plain, seen, heads, methods)
          : way === "tells"
            ? this.#told(plain, seen, heads, methods, VARIANTS[variant]!)
            : way === "watches"
              ? this.#filtered(plain, seen, methods)
              : this.#same(plain, seen);
      if (problem !== undefined) this.#fail(way, problem, plain, seen, heads);
    }
    const log = this.#newLog();
    if (/resty\.ts|lua/.test(log))
      this.#fail("edits", `the error log has:\n${log}`, plain, plain, heads);
  }

  async #send(
    way: Way,
    variant: number,
    sent: string,
    replies: ReadonlyMap<string, string>,
  ): Promise<Seen> {
    const upstream = this.#upstreams[way];
    upstream.replies = replies;
    const answer = await exchange(join(this.#folder, `${way}-${variant}.sock`), sent);
    return {
      received: await upstream.take(),
      answer: answer.replaceAll(DATE, "\r\nDate: now\r\n"),
    };
  }

  #same(plain: Seen, seen: Seen): string | undefined {
    const bytes = ({ received }: Seen): string => received.map((one) => one.bytes).join("\n|\n");
    return (
      sameText("the upstream's bytes", bytes(plain), bytes(seen)) ??
      sameText("the client's bytes", plain.answer, seen.answer)
    );
  }

  #filtered(plain: Seen, seen: Seen, methods: string[]): string | undefined {
    const requests = plain.received.map(askedWhole);
    const responses = parseResponses(plain.answer, methods).map(filtered);
    const got = parseResponses(seen.answer, methods).map(withoutLength);
    return compareAll("request", seen.received, requests) ?? compareAll("response", got, responses);
  }

  #told(
    plain: Seen,
    seen: Seen,
    heads: readonly Head[],
    methods: string[],
    directives: string,
  ): string | undefined {
    const right = parseResponses(plain.answer, methods);
    const got = parseResponses(seen.answer, methods);
    const problem = sameText(
      "the client's responses",
      JSON.stringify(right.map((one) => without(one))),
      JSON.stringify(got.map((one) => without(one, "x-saw"))),
    );
    if (problem !== undefined) return problem;
    let n = 0;
    for (const [i, response] of right.entries()) {
      const [state] = valuesOf(response, "x-state");
      const head = heads[n];
      if (head !== undefined && head.version !== "" && state !== undefined) {
        const saw = Buffer.from(valuesOf(got[i]!, "x-saw")[0] ?? "", "base64").toString();
        const view = rightView(head, requestBytes(head, n), state, directives);
        const wrong = judge(JSON.parse(saw) as Saw, view);
        if (wrong !== undefined) return `request ${n}: ${wrong}`;
      }
      if (!response.line.startsWith("HTTP/1.1 1")) n++;
    }
    return undefined;
  }

  #edited(plain: Seen, seen: Seen, heads: readonly Head[], methods: string[]): string | undefined {
    const editOf = (n: number): Edit => {
      const head = heads[n];
      return head === undefined || head.version === "" ? NO_EDIT : head.edit;
    };
    if (plain.received.length !== seen.received.length) {
      return `the upstream got ${seen.received.length} requests, and should get ${plain.received.length}`;
    }
    for (const [i, request] of plain.received.entries()) {
      const problem = compareUpstream(request, seen.received[i]!, editOf(Number(request.n ?? NaN)));
      if (problem !== undefined) return `request ${request.n ?? "?"}: ${problem}`;
    }
    const right = parseResponses(plain.answer, methods);
    const got = parseResponses(seen.answer, methods);
    if (right.length !== got.length) {
      return `the client got ${got.length} responses, and should get ${right.length}`;
    }
    let n = 0;
    for (const [i, response] of right.entries()) {
      const problem = compareResponse(response, got[i]!, editOf(n));
      if (problem !== undefined) return `response ${n}: ${problem}`;
      if (!response.line.startsWith("HTTP/1.1 1")) n++;
    }
    return undefined;
  }

  #newLog(): string {
    const all = readFileSync(join(this.#nginx.prefix, "logs", "error.log"), "utf8");
    const added = all.slice(this.#logged);
    this.#logged = all.length;
    return added
      .split("\n")
      .filter((line) => /\[(?:error|crit|alert|emerg)\]/.test(line))
      .join("\n");
  }

  #fail(way: Way, problem: string, plain: Seen, seen: Seen, heads: readonly Head[]): never {
    const shown = (text: string): string =>
      JSON.stringify(text.length > 3000 ? `${text.slice(0, 3000)}…` : text);
    const bytes = ({ received }: Seen): string =>
      received.map((one) => shown(one.bytes)).join("\n    ");
    throw new Difference(
      [
        `${way}: ${problem}`,
        `  sent:\n    ${heads.map((head, n) => shown(requestBytes(head, n))).join("\n    ")}`,
        `  edits: ${heads.map(({ edit }) => JSON.stringify(edit)).join(", ")}`,
        `  the upstream got without a plugin:\n    ${bytes(plain)}`,
        `  the upstream got with it:\n    ${bytes(seen)}`,
        `  the client got without a plugin: ${shown(plain.answer)}`,
        `  the client got with it: ${shown(seen.answer)}`,
        this.#newLog(),
      ].join("\n"),
    );
  }
}

function sameText(what: string, right: string, seen: string): string | undefined {
  if (right === seen) return undefined;
  let at = 0;
  while (at < right.length && right[at] === seen[at]) at++;
  const around = (text: string): string =>
    JSON.stringify(text.slice(Math.max(0, at - 60), at + 60));
  return `${what} differ at ${at}: ${around(seen)}, and should be ${around(right)}`;
}

function compareAll(
  what: string,
  seen: readonly Message[],
  right: readonly Message[],
): string | undefined {
  if (seen.length !== right.length) {
    return `there are ${seen.length} ${what}s, and should be ${right.length}`;
  }
  for (const [i, message] of right.entries()) {
    const problem = compareWhole(seen[i]!, message);
    if (problem !== undefined) return `${what} ${i}: ${problem}`;
  }
  return undefined;
}
