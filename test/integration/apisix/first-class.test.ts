/** TypeScript plugins as plugins of APISIX's own: phases, contexts, order. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Apisix } from "../../support/apisix.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import { probe } from "../../support/apisix-probes.js";

/** Tells by fields of the response which phases ran, with whose configuration and which state. */
const TELLER = `
  let setups = 0;
  const step = (ctx, phase, { conf, state }) =>
    ctx.response.headers.append("x-steps", phase + " " + conf.name + " " + state);
  export default definePlugin({
    name: "teller",
    priority: 1500,
    schema: Type.Object({ name: Type.String() }),
    setup: () => ++setups,
    rewrite: (ctx, own) => step(ctx, "rewrite", own),
    access: (ctx, own) => step(ctx, "access", own),
    beforeProxy: (ctx, own) => step(ctx, "beforeProxy", own),
    headerFilter: (ctx, own) => step(ctx, "headerFilter", own),
    bodyFilter(ctx, { conf }) {
      if (ctx.last) return Buffer.concat([ctx.chunk, Buffer.from("|" + conf.name)]);
    },
    delayedBodyFilter(ctx, { conf }) {
      if (ctx.last) return Buffer.concat([ctx.chunk, Buffer.from("|delayed " + conf.name)]);
    },
    log: (ctx, { conf }) => ctx.log.warn("log of " + conf.name + " " + ctx.response.status),
  });`;

const withTeller = (
  options: TypescriptOptions,
  body: (apisix: Apisix) => Promise<void>,
): Promise<void> => withTypescript({ typescript: { teller: TELLER }, ...options }, body);

const stepsOf = (text: string | undefined): string[][] =>
  (text ?? "").split(", ").map((step) => step.split(" "));

describe("phases", () => {
  it("a plugin of a route runs in all phases", () =>
    withTeller({ routes: [{ uri: "/a", plugins: { teller: { name: "r" } } }] }, async (a) => {
      const { status, headers, text } = await a.ask("/a");
      assert.equal(status, 200);
      assert.equal(
        headers["x-steps"],
        "rewrite r 1, access r 1, beforeProxy r 1, headerFilter r 1",
      );
      assert.match(text, /\|r\|delayed r$/);
      await a.untilLog(/log of r 200/);
    }));

  it("a redirect within nginx, for proxy-buffering, loses nothing of them", () =>
    withTeller(
      {
        plugins: ["proxy-buffering"],
        routes: [
          {
            uri: "/a",
            plugins: {
              teller: { name: "r" },
              "proxy-buffering": { disable_proxy_buffering: true },
            },
          },
        ],
      },
      async (a) => {
        const { headers, text } = await a.ask("/a");
        assert.equal(
          headers["x-steps"],
          "rewrite r 1, access r 1, beforeProxy r 1, headerFilter r 1",
        );
        assert.match(text, /\|r\|delayed r$/);
        await a.untilLog(/log of r 200/);
      },
    ));
});

describe("contexts", () => {
  it("a global rule and a route with the same plugin have two, the global rule's first", () =>
    withTeller(
      {
        globalRules: [{ id: "g", plugins: { teller: { name: "g" } } }],
        routes: [{ uri: "/a", plugins: { teller: { name: "r" } } }],
      },
      async (a) => {
        const { headers, text } = await a.ask("/a");
        const steps = stepsOf(headers["x-steps"]);
        assert.deepEqual(
          steps.map(([phase, name]) => `${String(phase)} ${String(name)}`),
          ["rewrite", "access", "beforeProxy", "headerFilter"].flatMap((phase) => [
            `${phase} g`,
            `${phase} r`,
          ]),
        );
        const states = new Set(steps.map(([, name, state]) => `${String(name)} ${String(state)}`));
        assert.equal(states.size, 2, "each has a state of its own");
        assert.match(text, /\|g\|r\|delayed g\|delayed r$/);
      },
    ));

  it("the same configuration at two routes is set up for each, and once for each", () =>
    withTeller(
      {
        routes: [
          { uri: "/a", plugins: { teller: { name: "same" } } },
          { uri: "/b", plugins: { teller: { name: "same" } } },
        ],
      },
      async (a) => {
        const states = new Map<string, Set<string | undefined>>();
        for (const path of ["/a", "/b", "/a", "/b"]) {
          const steps = stepsOf((await a.ask(path)).headers["x-steps"]);
          const seen = states.get(path) ?? new Set();
          for (const [, , state] of steps) seen.add(state);
          states.set(path, seen);
        }
        assert.deepEqual([...states.get("/a")!, ...states.get("/b")!].sort(), ["1", "2"]);
      },
    ));

  it("a service's configuration is one context, whatever route and however often it is copied", () =>
    withTeller(
      {
        services: [{ id: "s", plugins: { teller: { name: "s" } } }],
        routes: [
          { uri: "/a", service_id: "s" },
          { uri: "/b", service_id: "s" },
        ],
      },
      async (a) => {
        const states = new Set<string | undefined>();
        for (const path of ["/a", "/b", "/a"]) {
          for (const [, , state] of stepsOf((await a.ask(path)).headers["x-steps"])) {
            states.add(state);
          }
          await a.forget();
        }
        assert.deepEqual([...states], ["1"]);
      },
    ));

  it("an empty array of a configuration is an array in TypeScript", () =>
    withTypescript(
      {
        typescript: {
          lists: `
            export default definePlugin({
              name: "lists",
              schema: Type.Object({
                tags: Type.Array(Type.String()),
                map: Type.Record(Type.String(), Type.String()),
              }),
              access: (ctx, { conf }) => ctx.exit(200, conf),
            });`,
        },
        routes: [{ uri: "/a", plugins: { lists: { tags: [], map: {} } } }],
      },
      async (a) => {
        assert.deepEqual((await a.ask("/a")).json(), { tags: [], map: {} });
      },
    ));
});

describe("order", () => {
  it("is by priority among Lua plugins", () =>
    withTeller(
      {
        plugins: ["early", "late"],
        lua: { early: stepProbe("early", 2000), late: stepProbe("late", 1000) },
        routes: [
          {
            uri: "/a",
            plugins: { late: { name: "ll" }, teller: { name: "r" }, early: { name: "ee" } },
          },
        ],
      },
      async (a) => {
        assert.equal(
          (await a.ask("/a")).headers["x-steps"],
          "rewrite early, rewrite r 1, rewrite late, access r 1, beforeProxy r 1, headerFilter r 1",
        );
      },
    ));
});

const stepProbe = (name: string, priority: number): string =>
  probe(
    name,
    priority,
    `function _M.rewrite() core.response.add_header("x-steps", "rewrite ${name}") end`,
  );
