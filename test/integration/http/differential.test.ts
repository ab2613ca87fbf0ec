/**
 * A plugin that changes nothing changes nothing, and one that makes one change makes only that: for
 * request heads made up at random, the upstream and the client get the bytes that they get without
 * a plugin.
 *
 * The seed is fixed, so a run is like the one before; a failure shows the smallest input that fails.
 * RTS_HEADS=20000 tries so many, RTS_SEED=7 others.
 */
import { rmSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { type Head, head } from "../../differential/heads.ts";
import { differentialOptions, Rig, VARIANTS } from "../../differential/rig.ts";
import { withNginx } from "../../support/nginx.js";
import { makeFolder } from "../../support/project.js";

const HEADS = Number(process.env["RTS_HEADS"] ?? 1500);
const SEED = Number(process.env["RTS_SEED"] ?? 20_261);
const MOST_ON_A_CONNECTION = 4;
/** What was found by more heads than a run tries. */
const FOUND: readonly Head[] = [
  {
    ...{ method: "GET", target: "/", version: "HTTP/1.1", body: undefined, read: "request" },
    lines: ["Host: a.example", "X-\xe9: a name that Fetch does not take"],
    edit: { what: "same", phase: "access", how: "set", name: "uri", value: "" },
    reply: { status: "200 OK", fields: [], framing: "length", text: "" },
  },
];

async function run(runtime: "embedded" | "process", heads: number, seed: number): Promise<void> {
  const folder = makeFolder("differential");
  const upstreams = await Rig.upstreams(folder);
  try {
    await withNginx(differentialOptions(folder, runtime), async (nginx) => {
      const rig = new Rig(nginx, folder, upstreams);
      const made = fc.tuple(
        fc.array(head, { minLength: 1, maxLength: MOST_ON_A_CONNECTION }),
        fc.nat({ max: VARIANTS.length - 1 }),
      );
      await fc.assert(
        fc.asyncProperty(made, ([some, variant]) => rig.try(some, variant)),
        {
          seed,
          numRuns: Math.ceil(heads / ((1 + MOST_ON_A_CONNECTION) / 2)),
          examples: VARIANTS.map((_, variant) => [[[...FOUND], variant]]),
          includeErrorInReport: true,
        },
      );
    });
  } finally {
    await Promise.all(Object.values(upstreams).map((upstream) => upstream.close()));
    rmSync(folder, { recursive: true, force: true });
  }
}

test("requests and responses pass plugins unchanged but for the one change they make", () =>
  run("embedded", HEADS, SEED));

test("also where Node is a process of its own", () => run("process", HEADS / 5, SEED + 1));
