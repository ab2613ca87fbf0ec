/** Answers what plugins ask of nginx: the counterpart of lua/resty/ts/http/questions.lua. */
import { carry } from "../http/carried.js";
import { fromWire, wireBytes } from "../http/changes.js";
import { FlatFieldsReader } from "../http/read-fields.js";
import { METHODS } from "../http/validate.js";
import type { Dict } from "./dict.js";
import { filterFields, setField } from "./fields.js";
import type { RequestState } from "./request-state.js";
import type { TestConsumer, Upstream } from "./types.js";
import { askUpstream, collect, makeUpstreamRequest } from "./upstream.js";

type Wire = string | Uint8Array;
type Reply = readonly [ok: boolean, ...values: unknown[]];

export interface Answerer {
  readonly state: RequestState;
  readonly dicts: ReadonlyMap<string, Dict>;
  readonly locations: Readonly<Record<string, Upstream>>;
  readonly consumers: readonly TestConsumer[] | undefined;
  /** The chain's. */
  readonly plugins: readonly string[];
  /** What a location threw: it fails the test. */
  failTest(error: unknown): void;
}

function variable({ state }: Answerer, name: Wire): unknown[] {
  const value = state.variable(fromWire(name));
  return [value === undefined ? null : new Uint8Array(Buffer.from(value, "latin1"))];
}

/** The question `shared`, which needs no request. @returns the reply's values. */
export function answerShared(
  { dicts }: Pick<Answerer, "dicts">,
  [name, method, key, ...args]: readonly unknown[],
): unknown[] {
  const dict = dicts.get(String(name));
  if (dict === undefined) {
    throw new Error(
      `there is no shared dictionary ${String(name)}: declare it with lua_shared_dict ` +
        `${String(name)} in nginx's http block (in a test: shared: ["${String(name)}"])`,
    );
  }
  return dict.call(String(method), key, args);
}

/** The consumer that has the value in the field, for a plugin of the chain. */
function consumer(
  { state, consumers, plugins }: Answerer,
  [field, value]: readonly unknown[],
): unknown {
  for (const one of consumers ?? []) {
    const conf = plugins
      .map((name) => one.plugins[name])
      .find((own) => own?.[String(field)] === value);
    if (conf === undefined) continue;
    state.found = one.username;
    return carry({
      name: one.username,
      username: one.username,
      group_id: one.groupId ?? null,
      labels: one.labels ?? null,
      custom_id: one.labels?.["custom_id"] ?? null,
      credential_id: null,
      conf,
    });
  }
  return null;
}

function locationOf({ locations }: Answerer, path: string): Upstream {
  const [found] = Object.keys(locations)
    .filter((prefix) => path.startsWith(prefix))
    .sort((a, b) => b.length - a.length);
  if (found === undefined) {
    const known = Object.keys(locations).join(", ") || "none";
    throw new Error(
      `there is no location for the subrequest to ${path}: locations: { "${path}": … } is where ` +
        `a test gives it one (there are: ${known})`,
    );
  }
  return locations[found]!;
}

async function subrequest(
  answerer: Answerer,
  uri: Wire,
  options: Readonly<Record<"method" | "args" | "body", Wire | undefined>>,
): Promise<unknown[]> {
  const { state } = answerer;
  const method = options.method === undefined ? "GET" : fromWire(options.method);
  if (!METHODS.has(method)) throw new Error(`nginx does not know the method ${method}`);
  const [path = "", own] = fromWire(uri).split(/\?(.*)/s, 2);
  const location = locationOf(answerer, path);
  const given = options.args === undefined ? undefined : fromWire(options.args);
  const args = [own, given].filter((text) => text !== undefined && text !== "").join("&");
  const body = Buffer.from(options.body ?? "");
  const fields = filterFields(
    state.proxied().fields,
    (lower) => lower !== "content-length" && lower !== "transfer-encoding",
  );
  setField(fields, "Content-Length", [String(body.length)]);
  const request = makeUpstreamRequest(
    method,
    args === "" ? path : `${path}?${args}`,
    fields,
    new Uint8Array(body),
  );
  let answer;
  try {
    answer = await askUpstream(location, request);
  } catch (error) {
    answerer.failTest(error);
    throw error;
  }
  const headers = new FlatFieldsReader(answer.fields)
    .pairs()
    .sort(([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1))
    .flat()
    .map(wireBytes);
  const received = method === "HEAD" ? new Uint8Array(0) : await collect(answer.pieces);
  return [answer.status, headers, received];
}

async function reply(answerer: Answerer, [kind, ...words]: readonly unknown[]): Promise<Reply> {
  try {
    switch (kind) {
      case "var":
        return [true, ...variable(answerer, words[0] as Wire)];
      case "applied":
        return [true];
      case "body":
        return [true, ...answerer.state.bodyReply()];
      case "shared":
        return [true, ...answerShared(answerer, words)];
      case "consumer":
        return [true, consumer(answerer, words)];
      case "subrequest": {
        const [uri, options] = words as Parameters<typeof subrequest> extends [unknown, ...infer A]
          ? A
          : never;
        return [true, ...(await subrequest(answerer, uri, options))];
      }
      default:
        return [false, `there is no question ${String(kind)}`];
    }
  } catch (error) {
    return [false, error instanceof Error ? error.message : String(error)];
  }
}

/** The replies, one after the other, as in nginx. */
export async function answerAll(
  answerer: Answerer,
  asked: readonly (readonly unknown[])[],
): Promise<Reply[]> {
  const replies: Reply[] = [];
  for (const question of asked) replies.push(await reply(answerer, question));
  return replies;
}
