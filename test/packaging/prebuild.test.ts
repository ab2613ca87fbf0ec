/**
 * `npm run prebuild`, run twice for each platform: in the project, and in a copy of it in another
 * folder. What it makes is for machines that this one knows nothing of, and is the same bytes each
 * time. linux-arm64 is built by a cross compiler, but on such machines.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { readElf } from "../../scripts/lib/elf.mjs";
import { platform as own } from "../../scripts/lib/platform.mjs";
import { PROJECT_ROOT } from "../support/project.js";

/** What a build reads, beside what git keeps from it. */
const PARTS = [
  "CMakeLists.txt",
  "cmake",
  "binding.gyp",
  "native",
  "package.json",
  "scripts",
  "src",
  "tsconfig.json",
];
const INSTALLED = ["node_modules", ".deps/libnode", ".deps/libnode.json", ".deps/linux-arm64"];
/** The machine in an ELF header. */
const MACHINES: Readonly<Record<string, string>> = { x64: "X86-64", arm64: "AArch64" };
/** Of Debian 12, the oldest that the project is for. */
const GLIBC_MAX = [2, 36] as const;

const scratch = mkdtempSync(path.join(tmpdir(), "rts-test-prebuild-"));
const copy = path.join(scratch, "a-copy-with-another-name");

function prebuild(root: string, platform: string, out: string): string {
  const args = [path.join(root, "scripts/prebuild.mjs"), "--platform", platform, "--out", out];
  const printed = execFileSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  return printed.trim().split("\n").at(-1) ?? "";
}

function copyProject(): void {
  for (const part of [...PARTS, ...INSTALLED]) {
    if (!existsSync(path.join(PROJECT_ROOT, part))) continue;
    cpSync(path.join(PROJECT_ROOT, part), path.join(copy, part), {
      recursive: true,
      verbatimSymlinks: true,
    });
  }
  const record = path.join(copy, ".deps/libnode.json");
  writeFileSync(record, readFileSync(record, "utf8").replaceAll(`${PROJECT_ROOT}/`, `${copy}/`));
}

/** The symbols that a version script lets out, as a pattern. */
function exportsOf(map: string): RegExp {
  const text = readFileSync(path.join(PROJECT_ROOT, "native", map), "utf8");
  const globals = /global:([^}]*?)local:/.exec(text)?.[1] ?? "";
  const names = globals.split(/[;\s]+/).filter((name) => name !== "");
  assert.ok(names.length > 0, `${map} lets nothing out`);
  return new RegExp(`^(${names.map((name) => name.replace("*", "\\w*")).join("|")})$`);
}

after(() => {
  rmSync(scratch, { recursive: true, force: true });
});

for (const platform of new Set([own, "linux-arm64"])) {
  describe(`npm run prebuild for ${platform}`, { timeout: 600_000 }, () => {
    let folder = "";
    let again = "";

    before(() => {
      folder = prebuild(PROJECT_ROOT, platform, path.join(scratch, "first"));
      copyProject();
      again = prebuild(copy, platform, path.join(scratch, "second"));
    });
    after(() => {
      rmSync(copy, { recursive: true });
    });

    const libraries = (): string[] =>
      readdirSync(folder).filter((name) => /\.(so|node)$/.test(name));
    interface Manifest {
      readonly version: string;
      readonly platform: string;
      readonly glibc: string;
      readonly abis: readonly number[];
    }
    const manifest = (): Manifest =>
      JSON.parse(readFileSync(path.join(folder, "manifest.json"), "utf8")) as Manifest;

    it("makes all that a machine without a compiler needs, in a folder that names its kind", () => {
      assert.equal(path.basename(folder), platform);
      assert.equal(manifest().platform, platform);
      const backends = manifest().abis.map((abi) => `libresty_ts_node${abi}.so`);
      assert.ok(backends.length > 0);
      const rest = ["host.cjs", "host.cjs.map", "manifest.json", "resty_ts.node", "undici.cjs"];
      const expected = ["libresty_ts.so", ...backends, ...rest];
      assert.deepEqual(readdirSync(folder).sort(), expected.sort());
    });

    it("makes it for the machine of that name", () => {
      const machine = MACHINES[platform.split("-")[1] ?? ""];
      for (const name of libraries()) {
        assert.equal(readElf(path.join(folder, name)).machine, machine, name);
      }
    });

    it("makes the same bytes in another folder", () => {
      const names = readdirSync(folder);
      assert.deepEqual(readdirSync(again).sort(), names.sort());
      for (const name of names) {
        const [one, other] = [folder, again].map((place) => readFileSync(path.join(place, name)));
        assert.ok(one?.equals(other ?? Buffer.alloc(0)), `${name} differs`);
      }
    });

    it("puts no path of the machine that built it into a file", () => {
      for (const name of readdirSync(folder)) {
        const text = readFileSync(path.join(folder, name), "latin1");
        for (const place of [PROJECT_ROOT, scratch, path.join(tmpdir(), "resty-ts-prebuild-")]) {
          assert.ok(!text.includes(place), `${name} has ${place} in it`);
        }
      }
    });

    it("exports what the export map lets out, and nothing else", () => {
      for (const name of libraries()) {
        const allowed = exportsOf(name.endsWith(".node") ? "addon.map" : "resty_ts.map");
        const { exports } = readElf(path.join(folder, name));
        assert.ok(exports.length > 0, `${name} exports nothing`);
        assert.deepEqual(
          exports.filter((symbol) => !allowed.test(symbol)),
          [],
          name,
        );
      }
      assert.ok(readElf(path.join(folder, "libresty_ts.so")).exports.includes("rts_version"));
      const addon = readElf(path.join(folder, "resty_ts.node"));
      assert.ok(addon.exports.includes("napi_register_module_v1"));
    });

    it("resolves everything at load, and leaves nothing writable that could be run", () => {
      for (const name of libraries()) {
        const elf = readElf(path.join(folder, name));
        assert.ok(elf.hasRelro, `${name}: no relro`);
        assert.ok(elf.flags.includes("BIND_NOW"), `${name}: not bound at load`);
        assert.ok(!elf.hasTextRelocations, `${name}: text relocations`);
        assert.ok(!elf.hasExecutableStack, `${name}: an executable stack`);
        assert.equal(elf.buildId?.length, 40, `${name}: no build id of its content`);
        assert.ok(
          elf.runpath.every((place) => place.startsWith("$ORIGIN/")),
          `${name}: ${String(elf.runpath)}`,
        );
      }
    });

    it("states the glibc that it needs, which Debian 12 has", () => {
      const versions = libraries().map((name) => readElf(path.join(folder, name)).glibc ?? "0");
      const [highest = []] = versions
        .map((version) => version.split(".").map(Number))
        .sort(([a = 0, b = 0], [c = 0, d = 0]) => c - a || d - b);
      assert.equal(highest.join("."), manifest().glibc);
      const [major = 0, minor = 0] = highest;
      assert.ok(major === GLIBC_MAX[0] && minor <= GLIBC_MAX[1], manifest().glibc);
    });
  });
}

describe("npm run build", () => {
  it("is not preceded by npm run prebuild, though npm has such names for what comes before", () => {
    let printed = "";
    try {
      printed = execFileSync("npm", ["run", "build", "--", "no-such-part"], {
        cwd: PROJECT_ROOT,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
    } catch (error) {
      printed = (error as { stdout: string }).stdout;
    }
    assert.match(printed, /> resty-ts@\S+ build\n/);
    assert.doesNotMatch(printed, /> resty-ts@\S+ prebuild\n/);
  });
});
