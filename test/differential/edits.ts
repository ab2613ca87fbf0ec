/** One change that a plugin makes, and what may differ for it from what arrives without a plugin. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { type Message, valuesOf, whole, without } from "./raw.ts";

export interface Edit {
  readonly what:
    | "field"
    | "query"
    | "path"
    | "uri"
    | "method"
    | "same"
    | "variable"
    | "kept"
    | "response"
    | "refused";
  /** Where it is made, unless it is the response's. */
  readonly phase: "rewrite" | "access" | "beforeProxy";
  readonly how: "set" | "append" | "delete";
  readonly name: string;
  readonly value: string;
}

const words = (text: string): fc.Arbitrary<string> => fc.constantFrom(...text.split(" "));
const how = words("set append delete") as fc.Arbitrary<Edit["how"]>;
const value = fc.constantFrom(
  ...["1", "1.1 gateway", "a, b", "voil\xc3\xa0", "x\xa0", "\xe9", 'W/"z"', "a\tb", "*;q=0.1"],
);
const lists = words(
  "X-A x-a X-New X_A x_secret Via Accept Accept-Encoding If-None-Match If-Match Forwarded " +
    "X-Forwarded-For Cache-Control Warning !#$%&'*+-.^_`|~ __proto__ constructor Cookie",
);
const single = words("Authorization User-Agent Content-Type Referer Range Date Destination Depth");
const replyLists = words(
  "X-A x-b X-New x_secret Set-Cookie Link Vary Cache-Control WWW-Authenticate",
);
const replySingle = words("ETag Last-Modified Content-Type Expires");

function made(
  what: Edit["what"],
  parts: Partial<Record<"how" | "name" | "value", fc.Arbitrary<string>>>,
): fc.Arbitrary<Edit> {
  const {
    how: way = fc.constant("set"),
    name = fc.constant(""),
    value: given = fc.constant(""),
  } = parts;
  return fc.record({
    what: fc.constant(what),
    phase: fc.constantFrom("access", "rewrite", "beforeProxy"),
    how: way as fc.Arbitrary<Edit["how"]>,
    name,
    value: given,
  });
}

export const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 6, arbitrary: made("field", { how, name: lists, value }) },
  { weight: 2, arbitrary: made("field", { how: words("set delete"), name: single, value }) },
  {
    weight: 3,
    arbitrary: made("query", { how, name: words("a b tenant x"), value: words("7 %2F & é +") }),
  },
  { weight: 2, arbitrary: made("path", { value: words("/edited /v2/x /a/b.c") }) },
  { weight: 2, arbitrary: made("uri", { value: words("/u /u?a=1 /u%2Fv?b=%20 /u?") }) },
  { weight: 1, arbitrary: made("method", { value: words("GET PUT POST DELETE") }) },
  {
    weight: 3,
    arbitrary: made("same", { name: words("method uri path query x-a cookie via accept") }),
  },
  { weight: 1, arbitrary: made("variable", { value: words("v w") }) },
  { weight: 1, arbitrary: made("kept", { value: words("v w") }) },
  { weight: 4, arbitrary: made("response", { how, name: replyLists, value }) },
  {
    weight: 2,
    arbitrary: made("response", { how: words("set delete"), name: replySingle, value }),
  },
  {
    weight: 1,
    arbitrary: made("response", { how: fc.constant("delete"), name: words("Server Date") }),
  },
  {
    weight: 2,
    arbitrary: made("refused", {
      how,
      name: words(
        "Content-Length Transfer-Encoding Expect Connection TE Upgrade Keep-Alive Trailer",
      ),
      value: words("0 7 chunked close"),
    }),
  },
);

// What may differ ---------------------------------------------------------------------------------

type Problem = string | undefined;

function compare(what: string, seen: unknown, right: unknown): Problem {
  if (isDeepStrictEqual(seen, right)) return undefined;
  return `${what} is ${JSON.stringify(seen)}, and should be ${JSON.stringify(right)}`;
}

export function compareWhole(seen: Message, right: Message): Problem {
  const at = right.fields.findIndex((field, i) => !isDeepStrictEqual(field, seen.fields[i]));
  return (
    compare("the first line", seen.line, right.line) ??
    (at < 0 ? undefined : compare(`field ${at}`, seen.fields[at], right.fields[at])) ??
    compare("the number of fields", seen.fields.length, right.fields.length) ??
    compare("the body", seen.body, right.body)
  );
}

/** All fields but those of the edit's name stay as they are and where they are; its own are in their order. */
function compareFields(plain: Message, seen: Message, { how, name, value }: Edit): Problem {
  const lower = name.toLowerCase();
  const others = ({ fields }: Message): unknown =>
    fields.filter(([key]) => key.toLowerCase() !== lower);
  const problem = compare("the other fields", others(seen), others(plain));
  if (problem !== undefined || how === "delete") {
    return problem ?? compare(name, valuesOf(seen, lower), []);
  }
  if (how === "set") return compare(name, valuesOf(seen, lower), [value]);
  const right = [...valuesOf(plain, lower), value];
  // Fields of one list may be sent as one, without empty ones; cookies of responses may not.
  if (lower === "set-cookie") return compare(name, valuesOf(seen, lower), right);
  return compare(
    name,
    membersOf(seen, lower),
    membersOf({ ...plain, fields: [...plain.fields, [name, value]] }, lower),
  );
}

/** Of a list, however many fields it is in. */
function membersOf(message: Message, lower: string): string[] {
  const between = lower === "cookie" ? ";" : ",";
  return valuesOf(message, lower)
    .flatMap((value) => value.split(between))
    .map((member) => member.replace(/^[ \t]+|[ \t]+$/g, ""))
    .filter((member) => member !== "");
}

/** What is set again may move and be joined, and an empty field may go. */
function compareSame(plain: Message, seen: Message, name: string): Problem {
  return (
    compare("the request line", seen.line, plain.line) ??
    compare("the other fields", without(seen, name).fields, without(plain, name).fields) ??
    compare(name, membersOf(seen, name), membersOf(plain, name)) ??
    compare("the body", seen.body, plain.body)
  );
}

function decode(text: string): string {
  return text
    .replaceAll("+", " ")
    .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Names and values as bytes. */
export function argumentsOf(query: string): [string, string][] {
  return query
    .split("&")
    .filter((pair) => pair !== "")
    .map(argumentOf);
}

function argumentOf(pair: string): [string, string] {
  const at = pair.indexOf("=");
  const [name, value] = at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
  return [decode(name), decode(value)];
}

/** Arguments of other names keep their bytes, the one that was set or added comes as any spelling of it. */
function compareQuery(before: string, after: string, { how, name, value }: Edit): Problem {
  const own = (pair: string): boolean => argumentOf(pair)[0] === name;
  const rest = (query: string): string[] => query.split("&").filter((pair) => pair && !own(pair));
  const values = (query: string): string[] =>
    query
      .split("&")
      .filter((pair) => pair && own(pair))
      .map((pair) => argumentOf(pair)[1]);
  const given = Buffer.from(value, "utf8").toString("latin1");
  const right = { set: [given], append: [...values(before), given], delete: [] }[how];
  return (
    compare("the other arguments", rest(after), rest(before)) ??
    compare(`the argument ${name}`, values(after), right)
  );
}

interface Target {
  readonly method: string;
  readonly path: string;
  /** undefined: there is no "?". */
  readonly query: string | undefined;
  readonly version: string;
}

function targetOf({ line }: Message): Target {
  const [method = "", target = "", version = ""] = line.split(" ");
  // What is changed in one part has no fragment any more, which is none of a request target's.
  const [path = "", ...query] = target.split("#", 1)[0]!.split("?");
  return { method, path, query: query.length === 0 ? undefined : query.join("?"), version };
}

function compareTargets(plain: Message, seen: Message, edit: Edit): Problem {
  const before = targetOf(plain);
  const after = targetOf(seen);
  const problem =
    compare("the fields", seen.fields, plain.fields) ??
    compare("the version", after.version, before.version);
  if (problem !== undefined) return problem;
  switch (edit.what) {
    case "query":
      return (
        compare("the path", after.path, before.path) ??
        compareQuery(before.query ?? "", after.query ?? "", edit)
      );
    case "path":
      return (
        compare("the path", after.path, edit.value) ??
        compare("the query", after.query ?? "", before.query ?? "")
      );
    case "uri":
      return compare(
        "the target",
        `${after.path}?${after.query ?? ""}`,
        edit.value.includes("?") ? edit.value : `${edit.value}?`,
      );
    default:
      return (
        compare("the method", after.method, before.method === "HEAD" ? "HEAD" : edit.value) ??
        compare("the target", seen.line.split(" ")[1], plain.line.split(" ")[1])
      );
  }
}

/** @returns what differs at the upstream, beside what the edit is about. */
export function compareUpstream(plain: Message, seen: Message, edit: Edit): Problem {
  const { line, body } = whole(plain);
  switch (edit.what) {
    case "field":
      return (
        compare("the request line", seen.line, line) ??
        compareFields(plain, seen, edit) ??
        compare("the body", seen.body, body)
      );
    case "query":
    case "path":
    case "uri":
    case "method":
      return compareTargets(plain, seen, edit) ?? compare("the body", seen.body, body);
    case "variable":
      return compareUpstream(plain, seen, { ...edit, what: "field", how: "set", name: "X-Edited" });
    case "same":
      return compareSame(plain, seen, edit.name);
    case "kept":
    case "refused":
    case "response":
      return compareWhole(seen, plain);
  }
}

/** @returns what differs in the response that the client gets, beside what the edit is about. */
export function compareResponse(plain: Message, seen: Message, edit: Edit): Problem {
  const state = (message: Message): Message =>
    ["query", "path", "uri", "method"].includes(edit.what)
      ? without(message, "x-state")
      : whole(message);
  if (edit.what !== "response" || valuesOf(plain, "x-state").length === 0) {
    return compareWhole(state(seen), state(plain));
  }
  return (
    compare("the status line", seen.line, plain.line) ??
    compareFields(plain, seen, edit) ??
    compare("the body", seen.body, plain.body)
  );
}
