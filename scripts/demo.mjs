// Sets up, builds, starts an nginx with the examples, asks it, and shows what came back.
//   npm run demo               stays up until Ctrl-C
//   npm run demo -- --once     ends by itself; exit status 1 when an answer is not as expected
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { build } from "./build.mjs";
import { capture, inRoot, script } from "./lib/run.mjs";
import { startNginx } from "./lib/nginx.mjs";
import { setup } from "./setup.mjs";

const REQUEST_MS = 15_000;

/**
 * @typedef {{ status: number, text: string, headers: Headers }} Answer
 * @typedef {{ title: string, path: string, init?: RequestInit, want: (answer: Answer) => boolean, show?: (answer: Answer) => string }} Step
 */

const binary = Uint8Array.from({ length: 4096 }, (_, index) => index & 255);
const binaryText = Buffer.from(binary).toString("latin1");

/** @param {string} token @returns {Step[]} */
const steps = (token) => [
  {
    title: "a TypeScript function adds two numbers (examples/calc.ts)",
    path: "/add?a=1&b=2",
    want: ({ text }) => text === "3\n",
  },
  {
    title: "a Lua table goes in, an object comes out",
    path: "/summary",
    want: ({ text }) => text === "count 6, mean 3.833, max 9\n",
  },
  {
    title: "an npm package, marked, renders Markdown (examples/hello.ts)",
    path: "/hello?name=nginx",
    want: ({ text }) => text === "<p>Hello, <strong>nginx</strong>!</p>\n",
  },
  {
    title: "async: two fetches at once, answered by the same worker (examples/fetch.ts)",
    path: "/titles",
    want: ({ text }) => text === "page 1, page 2\n",
  },
  { title: "a timer", path: "/wait?ms=20", want: ({ text }) => text === "waited 20 ms\n" },
  {
    title: "a deadline: the handler needs 5 s, the caller gives it 100 ms",
    path: "/wait?ms=5000",
    want: ({ status, text }) => status === 504 && text.startsWith("timeout"),
  },
  {
    title: "node:crypto in the access phase: no token, no entry (examples/token.ts)",
    path: "/private",
    want: ({ status }) => status === 401,
    show: () => "",
  },
  {
    title: "and with a token",
    path: "/private",
    init: { headers: { authorization: token } },
    want: ({ text }) => text === "welcome, ada\n",
  },
  {
    title: "bytes that are no text, through zlib and back (examples/bytes.ts)",
    path: "/bytes",
    init: { method: "POST", body: binary },
    want: ({ text, headers }) =>
      text === binaryText && Number(headers.get("x-packed-bytes")) < 4096,
    show: ({ text, headers }) =>
      `${text.length} bytes, gzipped to ${headers.get("x-packed-bytes")} in between`,
  },
  {
    title: "response headers set by TypeScript, where nginx cannot wait (examples/headers.ts)",
    path: "/stamped",
    want: ({ text, headers }) => text === "stamped\n" && headers.get("x-served-by") === "ts",
    show: ({ headers }) =>
      [...headers]
        .filter(([name]) => name.startsWith("x-"))
        .map(([name, value]) => `${name}: ${value}`)
        .join("\n"),
  },
  {
    title: "a handler that throws (examples/failing.ts)",
    path: "/divide?a=1&b=0",
    want: ({ status, text }) =>
      status === 500 && text === "handler_failed: handler failed: cannot divide by zero\n",
  },
];

/** @param {string} url @param {RequestInit} [init] @returns {Promise<Answer>} */
async function ask(url, init) {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(REQUEST_MS) });
  const text = Buffer.from(await response.arrayBuffer()).toString("latin1");
  return { status: response.status, text, headers: response.headers };
}

/** @param {string} text */
const indent = (text) => text.trimEnd().replace(/^(?=.)/gm, "    ");

/** @param {string} base @param {Step} step */
async function runStep(base, step) {
  const { title, path, init, want, show = (/** @type {Answer} */ { text }) => text } = step;
  console.log(`\n${title}\n  ${init?.method ?? "GET"} ${path}`);
  try {
    const answer = await ask(base + path, init);
    const shown = indent(show(answer));
    console.log(`  ${answer.status}${shown === "" ? "" : `\n${shown}`}`);
    if (want(answer)) return true;
    console.log(
      `  NOT AS EXPECTED${show(answer) === answer.text ? "" : `\n${indent(answer.text)}`}`,
    );
  } catch (error) {
    console.log(`  NO ANSWER: ${error instanceof Error ? error.message : String(error)}`);
  }
  return false;
}

/** The same module without nginx. */
function runPlain() {
  console.log("\nthe same in a plain luajit script\n  luajit examples/plain.lua");
  const env = { ...process.env, LUA_PATH: `${inRoot("lua/?.lua")};;` };
  const options = { cwd: inRoot(), env, timeout: REQUEST_MS };
  const result = capture("luajit", ["examples/plain.lua"], options);
  console.log(indent(result.stdout + result.stderr));
  const want = "1 + 2 = 3\nwaited 10 ms\nwaited 20 ms\n";
  if (result.ok && result.stdout === want) return true;
  console.log("  NOT AS EXPECTED");
  return false;
}

/** @param {import("./lib/nginx.mjs").Nginx} nginx */
async function runAll(nginx) {
  const token = (await ask(`${nginx.url}/token?user=ada`)).text.trim();
  let failed = 0;
  for (const step of steps(token)) if (!(await runStep(nginx.url, step))) failed++;
  const stack = nginx
    .log()
    .split("\n")
    .find((line) => line.includes("cannot divide by zero"));
  console.log(`\nand its stack is in nginx's error log\n    ${stack ?? "NOT FOUND"}`);
  if (stack === undefined) failed++;
  if (!runPlain()) failed++;
  return failed;
}

/** Resolves when the user, or whoever reads our output, has had enough. @param {AbortSignal} signal */
async function interrupted(signal) {
  process.stdout.on("error", () => {});
  await Promise.race([
    ...["SIGINT", "SIGTERM", "SIGHUP"].map((name) => once(process, name, { signal })),
    once(process.stdout, "error", { signal }),
  ]).catch(() => {});
}

await script(async () => {
  const { values } = parseArgs({ options: { once: { type: "boolean", default: false } } });
  await setup({ group: "demo", npm: true });
  await build(["native", "host"]);

  const over = new AbortController();
  const enough = interrupted(over.signal);
  const nginx = await startNginx();
  try {
    console.log(`nginx is up at ${nginx.url}`);
    const failed = await Promise.race([runAll(nginx), enough]);
    if (failed !== undefined) {
      console.log(failed === 0 ? "\nall as expected" : `\n${failed} not as expected`);
      if (failed > 0) {
        process.exitCode = 1;
        console.log(`\nnginx's error log:\n${readFileSync(`${nginx.folder}/error.log`, "utf8")}`);
      }
      if (!values.once) {
        console.log(`\ntry: curl '${nginx.url}/add?a=20&b=22'; log: ${nginx.folder}/error.log`);
        console.log("Ctrl-C ends it");
        await enough;
      }
    } else {
      process.exitCode = 130;
    }
  } finally {
    over.abort();
    await nginx.stop();
  }
});
