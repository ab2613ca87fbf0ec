/**
 * Fuzzes the decoders of Lua and TypeScript with the same inputs, and compares what Lua makes of each
 * with what the wire format says (model.ts).
 *
 *   tsx test/fuzz/decoders.ts --seconds N [--seed S] [--keep]
 *
 * Not guided by coverage, which LuaJIT does not tell: an input whose outcome is new in kind is mutated
 * further. --keep adds to the corpus those that have a message of a new kind.
 */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PROJECT_ROOT } from "../support/project.ts";
import { CORPUS, readCorpus, runAll } from "./corpus.ts";
import { LuaChild } from "./lua-child.ts";
import { makeInput, mutate } from "./make.ts";
import { Random } from "./random.ts";

const FINDINGS = join(PROJECT_ROOT, "build-test/fuzz/findings");
const BATCH = 256;
const MOST_KEPT = 5000;

const nameOf = (input: Buffer) => createHash("sha1").update(input).digest("hex").slice(0, 16);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "600" },
      seed: { type: "string", default: String(Date.now() % 0x7fffffff) },
      keep: { type: "boolean", default: false },
    },
  });
  const random = new Random(Number(values.seed));
  console.log(`decoders of Lua and TypeScript: ${values.seconds} s, seed ${values.seed}`);
  mkdirSync(FINDINGS, { recursive: true });
  const child = new LuaChild();
  const pool = readCorpus().map(([, bytes]) => bytes);
  const known = new Set((await runAll(child, pool)).outcomes);
  const parts = new Set([...known].flatMap((outcome) => outcome.split(" ")));
  const until = Date.now() + 1000 * Number(values.seconds);
  let executions = pool.length;
  let findings = 0;
  let saidAt = Date.now();
  process.on("unhandledRejection", (error) => {
    console.log(`finding: unhandled rejection: ${String(error)}`);
    findings++;
  });
  while (Date.now() < until && findings === 0) {
    const inputs = Array.from({ length: BATCH }, () =>
      random.once(3) ? makeInput(random) : mutate(random, random.pick(pool), random.pick(pool)),
    );
    // Where this process hangs or dies itself, that is what is left of it.
    const current = Buffer.from(JSON.stringify(inputs.map((input) => input.toString("hex"))));
    writeFileSync(join(FINDINGS, "current.json"), current);
    const { wrong, outcomes } = await runAll(child, inputs);
    executions += outcomes.length;
    for (const [i, text] of wrong) {
      const file = join(FINDINGS, nameOf(inputs[i]!));
      writeFileSync(file, inputs[i]!);
      console.log(`finding: ${file}\n${text}`);
      findings++;
    }
    outcomes.forEach((outcome, i) => {
      if (known.has(outcome) || pool.length >= MOST_KEPT) return;
      known.add(outcome);
      pool.push(inputs[i]!);
      const news = outcome.split(" ").filter((part) => !parts.has(part));
      if (!values.keep || news.length === 0) return;
      for (const part of news) parts.add(part);
      writeFileSync(join(CORPUS, nameOf(inputs[i]!)), inputs[i]!);
    });
    if (Date.now() - saidAt > 5000) {
      saidAt = Date.now();
      console.log(`${executions} executions, ${pool.length} kinds of outcome`);
    }
  }
  child.close();
  console.log(`lua and ts: ${executions} executions each, ${findings} findings`);
  if (findings > 0) process.exitCode = 1;
}

await main();
