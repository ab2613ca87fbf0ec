/**
 * The npm package as its users have it: packed, installed into an empty folder where there is no
 * compiler and no script may run, then the example plugins in unit tests and in an nginx that has
 * nothing of the project but what was packed.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { withNginx } from "../../support/nginx.js";
import { makeFolder, INSTALLATION, PROJECT_ROOT } from "../../support/project.js";
import { addLibraries, Registry } from "../guide/registry.js";

const run = promisify(execFile);
const COMMAND_MS = 120_000;

/** What may be in the package at its top, of which npm adds the first three by itself. */
const TOP = /^(package\.json|README\.md|LICENSE|dist|lua|conf|prebuilds|templates)$/;

/** The example plugin, compiled as a user's bundler would, before a request that it answers. */
const UNIT_TEST = `
import { build } from "esbuild";
import { testPlugin } from "resty-ts/testing";

await build({
  entryPoints: ["plugins/cors.ts"], outfile: "cors.js", bundle: true, packages: "external",
  format: "esm", platform: "node",
});
const kit = await testPlugin((await import("./cors.js")).default, { origins: ["https://app.example.org"] });
const { response } = await kit.request({
  method: "OPTIONS",
  headers: { origin: "https://app.example.org", "access-control-request-method": "PUT" },
});
console.log(response.status, response.headers.get("access-control-allow-origin"));
await kit.close();
`;

const filesBelow = (folder: string): string[] =>
  readdirSync(join(PROJECT_ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(PROJECT_ROOT.length + 1));

describe("the npm package", () => {
  let base: string;
  let registry: Registry;
  let packed: string[];
  const app = (...parts: string[]): string => join(base, "app", ...parts);
  const installed = (...parts: string[]): string => app("node_modules", "resty-ts", ...parts);

  /** Of the programs of this machine: node and npm. */
  const environment = (): NodeJS.ProcessEnv => ({
    ...registry.environment(base),
    PATH: join(base, "bin"),
  });

  async function inApp(command: string, ...args: string[]): Promise<string> {
    const options = { cwd: app(), env: environment(), timeout: COMMAND_MS };
    return (await run(command, args, options)).stdout;
  }

  before(async () => {
    base = makeFolder("npm");
    registry = await Registry.start(join(base, "registry"));
    const { stdout } = await run(
      "npm",
      ["pack", "--ignore-scripts", "--silent", "--pack-destination", base],
      { cwd: PROJECT_ROOT },
    );
    const tarball = join(base, stdout.trim());
    packed = (await run("tar", ["-tzf", tarball])).stdout
      .trimEnd()
      .split("\n")
      .map((name) => name.replace(/^package\//, ""))
      .sort();

    mkdirSync(join(base, "bin"));
    symlinkSync(process.execPath, join(base, "bin", "node"));
    const { stdout: npm } = await run("which", ["npm"]);
    symlinkSync(realpathSync(npm.trim()), join(base, "bin", "npm"));
    mkdirSync(app("plugins"), { recursive: true });
    writeFileSync(app("package.json"), '{ "name": "app", "private": true, "type": "module" }\n');
    await inApp(join(base, "bin", "npm"), "install", tarball);
    copyFileSync(join(PROJECT_ROOT, "examples/plugins/cors.ts"), app("plugins", "cors.ts"));
    addLibraries(installed());
  });

  after(() => {
    registry.close();
    rmSync(base, { recursive: true, force: true });
  });

  test("it has the Lua files, the host, the command and what is built for the platform", () => {
    const wanted = ["lua", "conf", "prebuilds", "templates"]
      .filter((folder) => existsSync(join(PROJECT_ROOT, folder)))
      .flatMap(filesBelow);
    const dist = ["host.cjs", "host.cjs.map", "undici.cjs", "cli/main.js"].map((n) => `dist/${n}`);
    const types = ["dist/sdk/index.d.ts", "dist/testing/index.d.ts"];
    const missing = [...wanted, ...dist, ...types].filter((name) => !packed.includes(name));
    assert.deepEqual(missing, []);
  });

  test("it has nothing else", () => {
    assert.deepEqual(
      packed.filter((name) => !TOP.test(name.split("/")[0] ?? "")),
      [],
    );
    // Maps of files whose sources are not in the package lead nowhere; the host's has them in it.
    const maps = packed.filter((name) => name.startsWith("dist/") && name.endsWith(".map"));
    assert.deepEqual(maps, ["dist/host.cjs.map"]);
    // Of templates/ even tests belong to what `resty-ts init` writes.
    const own = packed.filter((name) => !name.startsWith("templates/"));
    assert.deepEqual(
      own.filter((name) => /tsbuildinfo|\.test\.|\.gyp|node_modules/.test(name)),
      [],
    );
  });

  test("what package.json names is in it", () => {
    const { bin, exports } = JSON.parse(readFileSync(installed("package.json"), "utf8")) as {
      bin: Record<string, string>;
      exports: Record<string, string | Record<string, string>>;
    };
    const named = Object.values(exports).flatMap((value) =>
      typeof value === "string" ? [value] : Object.values(value),
    );
    for (const name of [...named, ...Object.values(bin)]) {
      assert.ok(packed.includes(name.replace("./", "")), name);
    }
  });

  test("its command runs", async () => {
    assert.match(await inApp(app("node_modules/.bin/resty-ts"), "--help"), /Usage: resty-ts/);
  });

  test("an example plugin passes its unit test with the kit", async () => {
    writeFileSync(app("unit.js"), UNIT_TEST);
    assert.equal(await inApp("node", "unit.js"), "204 https://app.example.org\n");
  });

  const { libnode } = INSTALLATION;
  for (const [runtime, options] of [
    ["embedded", libnode === undefined ? {} : { libnode }],
    ["process", { node: process.execPath }],
  ] as const) {
    test(`nginx answers by it, with Node ${runtime}`, async () => {
      await withNginx(
        {
          projectRoot: installed(),
          ts: { plugins: app("plugins"), runtime, ...options },
          locations: {
            "/": `rewrite_by_lua_block {
                require("resty.ts.http").rewrite("cors", { origins = { "https://a.example" } })
              }
              content_by_lua_block { ngx.say("not a preflight") }`,
          },
        },
        async (nginx) => {
          const reply = await nginx.ask("/", {
            method: "OPTIONS",
            headers: { origin: "https://a.example", "access-control-request-method": "PUT" },
          });
          assert.equal(reply.status, 204);
          assert.equal(reply.headers["access-control-allow-origin"], "https://a.example");
          const maps = readFileSync(`/proc/${String(nginx.workerPid())}/maps`, "utf8");
          const ours = maps.match(/\S+\/libresty_ts\S*/g) ?? [];
          assert.deepEqual(
            ours.filter((file) => !file.startsWith(realpathSync(installed()))),
            [],
          );
          assert.ok(ours.length > 0);
        },
      );
    });
  }
});
