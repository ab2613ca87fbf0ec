/**
 * A request as nginx has it while plugins run: what the snapshot is made of and what changes change.
 * Texts are byte strings.
 *
 * Invariant: `body` is what the upstream would get now.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { encodeHead, type FlatFields, HeadFlag } from "../http/head.js";
import { byteString, escapePath } from "../http/target.js";
import { filterFields, flatten, setField, valueOf, valuesOf } from "./fields.js";
import { checkedHost, parseTarget } from "./target.js";
import type { TestRequest } from "./types.js";

const EMPTY = new Uint8Array(0);
/** As many as a head can count. */
const MOST_FIELDS = 65_535;
/** What ngx_http_proxy_module does not pass on. */
const NOT_PROXIED = new Set([
  "connection",
  "expect",
  "keep-alive",
  "te",
  "transfer-encoding",
  "upgrade",
]);
/** What a client may send once: nginx answers a second one with 400. */
const ONCE = [
  "authorization",
  "content-length",
  "content-range",
  "expect",
  "host",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-unmodified-since",
  "transfer-encoding",
];
/** Of the connection: Lua leaves them out of the response's fields. */
const OF_THE_CONNECTION = new Set(["connection", "transfer-encoding"]);
const APART = ["Content-Type", "Content-Length"];
const VERSIONS = { "1.0": 10, "1.1": 11, "2.0": 20, "3.0": 30 } as const;

interface Received {
  readonly bytes: Uint8Array;
  readonly type: string | undefined;
}

async function receive({ body, json }: TestRequest): Promise<Received | undefined> {
  if (json !== undefined) {
    if (body !== undefined) throw new TypeError("a request has a body or json, not both");
    const bytes = new TextEncoder().encode(JSON.stringify(json));
    return { bytes, type: "application/json" };
  }
  if (body === undefined) return undefined;
  if (typeof body === "string") return { bytes: new TextEncoder().encode(body), type: undefined };
  if (body instanceof Uint8Array) return { bytes: body.slice(), type: undefined };
  const made = new Response(body);
  const type = made.headers.get("content-type") ?? undefined;
  return { bytes: new Uint8Array(await made.arrayBuffer()), type };
}

export class RequestState {
  readonly id: number;
  readonly requestId = randomBytes(16).toString("hex");
  readonly scheme: "http" | "https";
  readonly httpVersion: keyof typeof VERSIONS;
  readonly remoteAddress: string;
  readonly requestUri: string;
  /** $host. */
  host: string;
  readonly ctx: Record<string, unknown>;
  /** Keys of ctx that TypeScript has set. */
  readonly ctxKeys = new Set<string>();
  readonly vars: Map<string, string | undefined>;
  method: string;
  uri: string;
  args: string | undefined;
  readonly requestFields: FlatFields;
  body: Uint8Array;
  status = 0;
  responseFields: FlatFields = [];
  /** The name of the consumer that was found last, of that whose request it is. */
  found: string | undefined = undefined;
  consumer: string | undefined = undefined;
  upstreamAddress: { host: string; port: number | null } | undefined = undefined;
  /** Of the handler whose changes were applied last, and may have to be undone. */
  #journal: { readonly handler: number; readonly undo: (butResponse: boolean) => void } | undefined;
  /** What the upstream is asked for; undefined: what nginx makes of `uri` and `args`. */
  #target: string | undefined;
  #inFile: boolean;
  /** Response fields that plugins have set or deleted before it was known -> how many are theirs. */
  readonly #overrides = new Map<string, number>();
  #folder: string | undefined;

  static async make(
    id: number,
    request: TestRequest,
    vars: Readonly<Record<string, string>>,
    bufferSize: number,
    isApisix: boolean,
  ): Promise<RequestState> {
    return new RequestState(id, request, await receive(request), vars, bufferSize, isApisix);
  }

  private constructor(
    id: number,
    request: TestRequest,
    received: Received | undefined,
    vars: Readonly<Record<string, string>>,
    bufferSize: number,
    private readonly isApisix: boolean,
  ) {
    const target = parseTarget(request.url ?? "/");
    const fields = flatten(request.headers);
    if (valueOf(fields, "host") === undefined) fields.unshift("Host", target.host ?? "localhost");
    if (received !== undefined) {
      const { type, bytes } = received;
      if (type !== undefined && valueOf(fields, "content-type") === undefined) {
        fields.push("Content-Type", type);
      }
      if (!["content-length", "transfer-encoding"].some((name) => valueOf(fields, name))) {
        fields.push("Content-Length", String(bytes.length));
      }
    }
    if (fields.length / 2 > MOST_FIELDS) {
      throw new TypeError(`this is answered with 431: it has more than ${MOST_FIELDS} fields`);
    }
    for (const name of ONCE) {
      if (valuesOf(fields, name).length > 1) {
        throw new TypeError(`nginx answers this itself, with 400: ${name} is there twice`);
      }
    }
    this.id = id;
    this.scheme = target.scheme;
    this.httpVersion = request.httpVersion ?? "1.1";
    this.remoteAddress = request.remoteAddress ?? "127.0.0.1";
    this.requestUri = this.#target = target.requestUri;
    this.host = checkedHost(target.host ?? valueOf(fields, "host")!);
    this.uri = target.uri;
    this.args = target.args;
    this.method = request.method ?? (received === undefined ? "GET" : "POST");
    // ignore_invalid_headers on, underscores_in_headers off.
    this.requestFields = filterFields(fields, (lower) => /^[a-z0-9-]+$/.test(lower));
    this.body = received?.bytes ?? EMPTY;
    this.#inFile = this.body.length > bufferSize;
    this.ctx = { ...request.ctx };
    this.vars = new Map(
      Object.entries(vars).map(([name, value]) => [name.toLowerCase(), byteString(value)]),
    );
  }

  // What plugins are told ---------------------------------------------------------------------

  head(phase: number, token: number, flags: number): Uint8Array {
    if ((flags & HeadFlag.continues) !== 0) {
      const empty = { method: "", requestUri: "", uri: "", remoteAddress: "", requestFields: [] };
      return encodeHead({ phase, flags, token, requestId: this.id, args: "", ...empty });
    }
    const [path = "", args] = (this.#target ?? "").split(/\?(.*)/s, 2);
    return encodeHead({
      phase,
      httpVersion: VERSIONS[this.httpVersion],
      flags: flags | this.#flags(),
      token,
      requestId: this.id,
      status: this.status,
      method: this.method,
      requestUri: this.#target ?? this.requestUri,
      ...(this.#isRaw ? { uri: path, args } : { uri: this.uri, args: this.args }),
      remoteAddress: this.remoteAddress,
      host: this.host,
      originalTarget: this.#isChanged ? this.requestUri : undefined,
      requestFields: this.requestFields,
      responseFields: this.#shownResponseFields(),
    });
  }

  get #isChanged(): boolean {
    return this.#target !== undefined && this.#target !== this.requestUri;
  }

  /** `uri` is told as APISIX asks the upstream for it: escaped. */
  get #isRaw(): boolean {
    return this.isApisix && this.#isChanged;
  }

  #flags(): number {
    const https = this.scheme === "https" ? HeadFlag.https : 0;
    const apisix = this.isApisix ? HeadFlag.apisix : 0;
    return https | apisix | (this.#isRaw ? HeadFlag.rewritten : 0);
  }

  /** What nginx has in places of their own comes first, as on the wire. */
  #shownResponseFields(): FlatFields {
    const apart = APART.flatMap((name) => {
      const value = valueOf(this.responseFields, name);
      return value === undefined ? [] : [name, value];
    });
    const hidden = new Set([...OF_THE_CONNECTION, ...APART.map((name) => name.toLowerCase())]);
    return [...apart, ...filterFields(this.responseFields, (lower) => !hidden.has(lower))];
  }

  /** A variable's value; undefined: it has none. */
  variable(name: string): string | undefined {
    const lower = name.toLowerCase();
    if (this.vars.has(lower)) return this.vars.get(lower);
    return this.#builtin(lower);
  }

  #builtin(name: string): string | undefined {
    const [, kind, rest = ""] = /^(arg|http|cookie|sent_http)_(.+)$/.exec(name) ?? [];
    switch (kind) {
      case "arg":
        return new RegExp(`(?:^|&)${rest}=([^&]*)`, "i").exec(this.args ?? "")?.[1];
      case "http":
        return joined(valuesOf(this.requestFields, rest.replaceAll("_", "-")), rest);
      case "cookie":
        return new RegExp(`(?:^|; *)${rest}=([^;]*)`, "i").exec(
          joined(valuesOf(this.requestFields, "cookie"), "cookie") ?? "",
        )?.[1];
      case "sent_http":
        return joined(valuesOf(this.responseFields, rest.replaceAll("_", "-")), rest);
      default:
    }
    switch (name) {
      case "args":
      case "query_string":
        return this.args;
      case "is_args":
        return this.args ? "?" : "";
      case "content_length":
      case "content_type":
        return valueOf(this.requestFields, name.replace("_", "-"));
      case "document_uri":
      case "uri":
        return this.uri;
      case "host":
        return this.host;
      case "https":
        return this.scheme === "https" ? "on" : "";
      case "remote_addr":
        return this.remoteAddress;
      case "request_id":
        return this.requestId;
      case "request_method":
        return this.method;
      case "request_uri":
        return this.requestUri;
      case "scheme":
        return this.scheme;
      case "server_protocol":
        return `HTTP/${this.httpVersion}`;
      case "status":
        return this.status === 0 ? "000" : String(this.status).padStart(3, "0");
      default:
        return undefined;
    }
  }

  /** ngx.req.get_body_data and get_body_file, as the reply's values. */
  bodyReply(): [Uint8Array] | [null, string] {
    if (!this.#inFile) return [this.body.slice()];
    if (this.#folder === undefined) {
      this.#folder = mkdtempSync(path.join(tmpdir(), "resty-ts-"));
      writeFileSync(path.join(this.#folder, "body"), this.body);
    }
    return [null, path.join(this.#folder, "body")];
  }

  // What plugins change -----------------------------------------------------------------------

  setRequestField(name: string, values: readonly string[]): void {
    if (name.toLowerCase() === "host") this.host = checkedHost(values[0] ?? "localhost");
    setField(this.requestFields, name, values);
  }

  appendRequestField(name: string, values: readonly string[]): void {
    for (const value of values) this.requestFields.push(name, value);
  }

  setResponseField(name: string, values: readonly string[]): void {
    setField(this.responseFields, name, values);
    this.#overrides.set(name.toLowerCase(), values.length);
  }

  appendResponseField(name: string, values: readonly string[]): void {
    for (const value of values) this.responseFields.push(name, value);
    const lower = name.toLowerCase();
    if (!this.#overrides.has(lower)) return;
    this.#overrides.set(lower, valuesOf(this.responseFields, lower).length);
  }

  /** One that Lua has to write into nginx's list itself. */
  writeResponseField(name: string, values: readonly string[]): void {
    this.setResponseField(name, []);
    this.appendResponseField(name, values);
  }

  /** A plugin answers: there will be no other response's fields. */
  answering(): void {
    this.#overrides.clear();
  }

  /** The upstream's fields come after those that are there. */
  addUpstreamFields(fields: FlatFields): void {
    const replaced = APART.map((name) => name.toLowerCase()).filter(
      (name) => !this.#overrides.has(name) && valueOf(fields, name) !== undefined,
    );
    const own = filterFields(this.responseFields, (lower) => !replaced.includes(lower));
    this.responseFields = [...own, ...fields];
  }

  /** They are known: of those that plugins have set or deleted before, what was added since goes. */
  override(): void {
    for (const [name, kept] of this.#overrides) {
      let left = kept;
      this.responseFields = filterFields(
        this.responseFields,
        (lower) => lower !== name || left-- > 0,
      );
    }
    this.#overrides.clear();
  }

  /** What ngx_http_not_modified_filter_module does to an answer that is nginx's own. */
  notModified(): void {
    const since = valueOf(this.requestFields, "if-modified-since");
    const none = valueOf(this.requestFields, "if-none-match");
    if (this.status !== 200 || (since === undefined && none === undefined)) return;
    const modified = valueOf(this.responseFields, "last-modified");
    if (since !== undefined && !(Date.parse(since) === Date.parse(modified ?? ""))) return;
    const etag = valueOf(this.responseFields, "etag")?.replace(/^W\//, "");
    const known = none?.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
    if (known !== undefined && none !== "*" && (etag === undefined || !known.includes(etag)))
      return;
    this.status = 304;
    const gone = ["content-type", "content-length", "content-encoding", "accept-ranges"];
    this.responseFields = filterFields(this.responseFields, (lower) => !gone.includes(lower));
  }

  /** @param uri undefined: it stays. @param target as the upstream gets it. */
  setUri(uri: string | undefined, args: string | undefined, target: string): void {
    this.uri = uri ?? this.uri;
    this.args = args || undefined;
    this.#target = target;
  }

  setBody(body: Uint8Array): void {
    this.body = body.slice();
    this.#inFile = false;
    this.setRequestField("Content-Length", [String(body.length)]);
  }

  setVariable(name: string, value: string | undefined): void {
    const lower = name.toLowerCase();
    if (lower === "args" && !this.vars.has(lower)) {
      this.args = value;
      this.#target = undefined;
      return;
    }
    if (this.vars.has(lower)) {
      this.vars.set(lower, value);
      return;
    }
    const known = this.#builtin(lower) !== undefined;
    throw new Error(
      known
        ? `variable "${name}" not changeable`
        : `variable "${name}" not found for writing; maybe it is a built-in variable that is not ` +
            `changeable or you forgot to use "set $${name} '';" in the config file to define it ` +
            `first (in a test: vars: { ${name}: "" })`,
    );
  }

  /** The changes that come are this handler's. */
  beginJournal(handler: number): void {
    if (this.#journal?.handler === handler) return;
    this.#journal = { handler, undo: this.#checkpoint() };
  }

  /** Undoes what that handler has changed, but for the response when that is asked for. */
  undo(butResponse = false): void {
    this.#journal?.undo(butResponse);
    this.#journal = undefined;
  }

  /** Another phase begins, and what was changed stands. */
  endJournal(): void {
    this.#journal = undefined;
  }

  #checkpoint(): (butResponse: boolean) => void {
    const { method, uri, args, body, upstreamAddress, consumer } = this;
    const { status } = this;
    const overrides = [...this.#overrides];
    const [target, inFile] = [this.#target, this.#inFile];
    const [requestFields, responseFields] = [[...this.requestFields], [...this.responseFields]];
    const [vars, ctx] = [[...this.vars], { ...this.ctx }];
    return (butResponse) => {
      Object.assign(this, { method, uri, args, body, upstreamAddress, consumer });
      [this.#target, this.#inFile] = [target, inFile];
      this.requestFields.splice(0, Infinity, ...requestFields);
      if (!butResponse) {
        Object.assign(this, { status, responseFields });
        this.#overrides.clear();
        for (const [name, kept] of overrides) this.#overrides.set(name, kept);
      }
      for (const [name, value] of vars) this.vars.set(name, value);
      for (const key of Object.keys(this.ctx)) Reflect.deleteProperty(this.ctx, key);
      Object.assign(this.ctx, ctx);
    };
  }

  // What goes on ------------------------------------------------------------------------------

  /** What the upstream gets of it. */
  proxied(): { method: string; uri: string; fields: FlatFields; body: Uint8Array } {
    const args = this.args ? `?${this.args}` : "";
    return {
      method: this.method,
      uri: this.#target ?? escapePath(this.uri) + args,
      fields: filterFields(this.requestFields, (lower) => !NOT_PROXIED.has(lower)),
      body: this.body.slice(),
    };
  }

  /** @throws {Error} when the consumer was not asked for. */
  attachConsumer(name: string): void {
    if (name !== this.found) {
      throw new Error(`the consumer ${name} was not found before: ctx.apisix.findConsumer`);
    }
    this.consumer = name;
  }

  dispose(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }
}

/** Several fields of one name as nginx's variables have them. */
function joined(values: readonly string[], name: string): string | undefined {
  return values.length === 0 ? undefined : values.join(name === "cookie" ? "; " : ", ");
}
