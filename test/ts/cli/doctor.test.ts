/** `resty-ts doctor` on machines of which one thing is broken each, and on this one. */
import assert from "node:assert/strict";
import { chmodSync, cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Finding } from "../../../src/cli/doctor/finding.js";
import { PROJECT_ROOT } from "../../support/project.js";
import {
  elfOf,
  machineOf,
  NGINX_CONF,
  nginxScript,
  NO_CORE,
  NO_LIBRARY,
  nodeScript,
} from "./fake-machine.js";
import { folderOf, runCli } from "./support.js";

/** Only root's nginx has another user for its workers. */
const asRoot = process.getuid?.() === 0;

async function doctor(...args: string[]) {
  const { code, stdout, stderr } = await runCli("doctor", "--json", ...args);
  assert.equal(stderr, "");
  const findings = JSON.parse(stdout) as Finding[];
  const of = (level: string) => findings.filter((each) => each.level === level);
  return { code, findings, faults: of("fault"), warnings: of("warning") };
}

interface Broken {
  readonly changes: Readonly<Record<string, string | Buffer | undefined>>;
  readonly check: string;
  readonly text: RegExp;
  readonly cure: RegExp;
  readonly level?: "warning";
  readonly modes?: Readonly<Record<string, number>>;
  readonly rootOnly?: true;
}

const noNode = { "usr/bin/node": undefined };
const libnode = (soname: string, text = "") => elfOf({ soname, needed: ["libc.so.6"], text });

const broken: Record<string, Broken> = {
  "no nginx": {
    changes: { "usr/sbin/nginx": undefined },
    check: "nginx",
    text: /there is no nginx/,
    cure: /apt-get install nginx libnginx-mod-http-lua/,
  },
  "an nginx that does not run": {
    changes: { "usr/sbin/nginx": "#!/nope/sh\n" },
    check: "nginx",
    text: /\/usr\/sbin\/nginx does not run: /,
    cure: /run `nginx -V` yourself/,
  },
  "nginx without its Lua module": {
    changes: {
      "usr/lib/nginx/modules/ngx_http_lua_module.so": undefined,
      "etc/nginx/modules-enabled/50-lua.conf": undefined,
    },
    check: "lua-nginx-module",
    text: /nginx has no Lua module/,
    cure: /apt-get install libnginx-mod-http-lua/,
  },
  "a Lua module that is not loaded": {
    changes: { "etc/nginx/modules-enabled/50-lua.conf": "" },
    check: "lua-nginx-module",
    text: /is there, and \/etc\/nginx\/nginx\.conf does not load it/,
    cure: /load_module \/usr\/lib\/nginx\/modules\/ngx_http_lua_module\.so;/,
  },
  "no lua-resty-core": {
    changes: { "usr/sbin/nginx": nginxScript({ tells: "", says: NO_CORE }) },
    check: "lua-resty-core",
    text: /does not load: .*module 'resty\.core' not found/,
    cure: /apt-get install lua-resty-core/,
  },
  "no libresty_ts.so": {
    changes: {
      "usr/sbin/nginx": nginxScript({ tells: NO_LIBRARY }),
      "opt/rts/libresty_ts.so": undefined,
    },
    check: "resty-ts",
    text: /libresty_ts\.so does not load: .* neither on package\.cpath/,
    cure: /lua_package_cpath/,
  },
  "no libnode and no node": {
    changes: { ...noNode, "usr/lib/libnode.so.115": undefined },
    check: "libnode",
    text: /there is no libnode/,
    cure: /libnode-dev/,
  },
  "a libnode without a backend, and no node": {
    changes: {
      ...noNode,
      "usr/lib/libnode.so.115": undefined,
      "usr/lib/libnode.so.137": libnode("libnode.so.137"),
    },
    check: "libnode",
    text: /has ABI 137, .*no backend libresty_ts_node137\.so .*\(there are some for: 115\)/,
    cure: /npm run build/,
  },
  "a libnode without a backend, where node does": {
    changes: { "opt/rts/libresty_ts_node115.so": undefined },
    check: "libnode",
    level: "warning",
    text: /has ABI 115, .*\(there are some for: none\)/,
    cure: /npm run build/,
  },
  "a libnode that needs a library that is not there": {
    changes: {
      ...noNode,
      "usr/lib/libnode.so.115": elfOf({ soname: "libnode.so.115", needed: ["libuv.so.1"] }),
    },
    check: "libnode",
    text: /needs libuv\.so\.1, which is not there/,
    cure: /apt-get install libnode-dev/,
  },
  "a libnode whose built-in files are not mounted": {
    changes: {
      ...noNode,
      "usr/lib/libnode.so.115": libnode("libnode.so.115", "/usr/share/nodejs/acorn/dist/acorn.js"),
    },
    check: "libnode",
    text: /reads \/usr\/share\/nodejs\/acorn\/dist\/acorn\.js when it starts/,
    cure: /apt-get install node-acorn; in a container, mount \/usr\/share\/nodejs/,
  },
  "a library made for musl": {
    changes: { "opt/rts/libresty_ts.so": elfOf({ needed: ["libc.musl-x86_64.so.1"] }) },
    check: "libc",
    text: /is made for musl, and this machine's C library is glibc/,
    cure: /deploy the files made for glibc/,
  },
  "a node that is too old, and no libnode": {
    changes: { "usr/bin/node": nodeScript("v16.20.2"), "usr/lib/libnode.so.115": undefined },
    check: "node",
    text: /is Node v16\.20\.2, too old: 18 is the least/,
    cure: /install Node 18 or later/,
  },
  "no addon for a process": {
    changes: { "opt/rts/resty_ts.node": undefined, "usr/lib/libnode.so.115": undefined },
    check: "node",
    text: /resty_ts\.node is not there/,
    cure: /npm run build/,
  },
  "no folder of plugins": {
    changes: { "srv/plugins/hello.ts": undefined },
    check: "plugins",
    text: /\/srv\/plugins is no folder/,
    cure: /name their folder in ts\.start/,
  },
  "a plugin that workers may not read": {
    changes: {},
    modes: { "srv/plugins/hello.ts": 0o600 },
    rootOnly: true,
    check: "plugins",
    text: /\/srv\/plugins\/hello\.ts: the workers' user worker may not read it/,
    cure: /chmod o\+r \/srv\/plugins\/hello\.ts/,
  },
  "a folder above that workers may not enter": {
    changes: {},
    modes: { srv: 0o700 },
    rootOnly: true,
    check: "plugins",
    text: /the workers' user worker may not enter \/srv$/,
    cure: /chmod o\+x \/srv/,
  },
  "a runtime_dir that cannot be written": {
    changes: {
      "etc/nginx/nginx.conf": NGINX_CONF.replace("plugins =", 'runtime_dir = "/run/ts", plugins ='),
      "run/ts/.keep": "",
    },
    modes: { "run/ts": 0o755 },
    rootOnly: true,
    check: "runtime_dir",
    text: /the workers' user worker cannot write to \/run\/ts/,
    cure: /install -d -o worker -m 700 /,
  },
  "workers whose user is not there": {
    changes: { "etc/passwd": "root:x:0:0::/root:/bin/sh\n" },
    rootOnly: true,
    check: "user",
    text: /the workers' user worker is not on this machine/,
    cure: /useradd --system worker/,
  },
};

describe("resty-ts doctor", () => {
  test("finds no fault where there is none", { skip: !asRoot && "wants root" }, async (t) => {
    const { code, findings } = await doctor("--root", machineOf(t));
    assert.deepEqual(
      findings.map(({ check, level, text }) => [level, check, text]),
      [
        ["ok", "nginx", "nginx/1.26.3 (/usr/sbin/nginx)"],
        ["ok", "lua-nginx-module", "lua-nginx-module 0.10.28, LuaJIT 2.1"],
        ["ok", "lua-resty-core", "lua-resty-core 0.1.31"],
        ["ok", "libc", "glibc"],
        ["ok", "resty-ts", "/opt/rts/libresty_ts.so"],
        ["ok", "libnode", '/usr/lib/libnode.so.115, for runtime "embedded"'],
        ["ok", "node", 'v20.11.1 (/usr/bin/node), for runtime "process"'],
        ["ok", "user", "worker"],
        ["ok", "plugins", "/srv/plugins, readable by worker"],
        ["ok", "runtime_dir", "/tmp, writable by worker"],
      ],
    );
    assert.equal(code, 0);
  });

  for (const [title, { changes, check, text, cure, level, modes, rootOnly }] of Object.entries(
    broken,
  )) {
    test(`names the cure: ${title}`, { skip: rootOnly && !asRoot && "wants root" }, async (t) => {
      const root = machineOf(t, changes);
      for (const [name, mode] of Object.entries(modes ?? {})) chmodSync(join(root, name), mode);
      const { code, findings, faults, warnings } = await doctor("--root", root);
      const among = level === "warning" ? warnings : faults;
      const found = among.find((each) => each.check === check && text.test(each.text));
      assert.ok(found, JSON.stringify(findings, undefined, 1));
      assert.match(found.cure ?? "", cure);
      const isWell = findings.some((each) => each.text === "/opt/rts/libresty_ts.so");
      assert.ok(check !== "libc" || !isWell, "a library that does not fit is not called well");
      assert.equal(code, level === "warning" ? 0 : 1);
    });
  }

  test("asks this machine's own nginx", async (t) => {
    const folder = folderOf(t);
    cpSync(join(PROJECT_ROOT, "lua"), join(folder, "alone/lua"), { recursive: true });
    const conf = join(folder, "nginx.conf");
    const write = (root: string): void => {
      const modules = "/usr/lib/nginx/modules";
      writeFileSync(
        conf,
        `load_module ${modules}/ndk_http_module.so;\nload_module ${modules}/ngx_http_lua_module.so;\n` +
          `http {\n  lua_package_path "${root}/lua/?.lua;;";\n}\n`,
      );
    };
    write(PROJECT_ROOT);
    const { findings } = await doctor("--nginx-conf", conf);
    const found = findings.filter(({ level }) => level === "ok").map(({ check }) => check);
    for (const check of ["nginx", "lua-nginx-module", "lua-resty-core", "libc", "resty-ts"]) {
      assert.ok(found.includes(check), JSON.stringify(findings, undefined, 1));
    }
    write(join(folder, "alone"));
    const alone = await doctor("--nginx-conf", conf);
    assert.equal(alone.code, 1);
    assert.match(alone.faults[0]?.text ?? "", /^libresty_ts\.so does not load: /);
    write(folder);
    const none = await doctor("--nginx-conf", conf);
    assert.match(none.faults[0]?.text ?? "", /Lua files of resty-ts are not found/);
    assert.match(none.faults[0]?.cure ?? "", /lua_package_path/);
  });

  test("prints a line for each finding, a cure below, and no colour into a file", async (t) => {
    const { code, stdout } = await runCli(
      ...["doctor", "--root", machineOf(t, { "usr/sbin/nginx": undefined })],
    );
    assert.equal(code, 1);
    assert.match(stdout, /^fault {4}nginx +there is no nginx.*\n +cure: apt-get install nginx/m);
    assert.ok(!stdout.includes("\x1b"));
  });
});
