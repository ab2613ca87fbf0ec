/** Roots of machines for doctor to look at: small files in a folder, and programs that are scripts. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { folderOf } from "./support.js";

const SEGMENT_BYTES = 56;
const HEADER_BYTES = 64;

/** What `readElf` reads of a library or program, and nothing else. */
export function elfOf({
  interpreter,
  soname,
  needed = [],
  machine = 62,
  text = "",
}: {
  interpreter?: string;
  soname?: string;
  needed?: readonly string[];
  machine?: number;
  text?: string;
}): Buffer {
  let strings = "\0";
  const put = (value: string): number => {
    const at = strings.length;
    strings += `${value}\0`;
    return at;
  };
  const interpreterAt = interpreter === undefined ? 0 : put(interpreter);
  const tags: [number, number][] = needed.map((name) => [1, put(name)]);
  if (soname !== undefined) tags.push([14, put(soname)]);
  put(text);
  const count = 3;
  const stringsAt = HEADER_BYTES + count * SEGMENT_BYTES;
  const bytesOfStrings = Buffer.from(strings, "latin1");
  const dynamicAt = stringsAt + bytesOfStrings.length;
  tags.push([5, stringsAt], [0, 0]);

  const header = Buffer.alloc(stringsAt);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(machine, 18);
  header.writeBigUInt64LE(BigInt(HEADER_BYTES), 32);
  header.writeUInt16LE(count, 56);
  const segments = [
    [1, 0, dynamicAt + tags.length * 16],
    [2, dynamicAt, tags.length * 16],
    [interpreter === undefined ? 0 : 3, stringsAt + interpreterAt, 0],
  ] as const;
  segments.forEach(([type, offset, size], i) => {
    const at = HEADER_BYTES + i * SEGMENT_BYTES;
    header.writeUInt32LE(type, at);
    header.writeBigUInt64LE(BigInt(offset), at + 8);
    header.writeBigUInt64LE(BigInt(offset), at + 16);
    header.writeBigUInt64LE(BigInt(size), at + 32);
  });
  const dynamic = Buffer.alloc(tags.length * 16);
  tags.forEach(([tag, value], i) => {
    dynamic.writeBigUInt64LE(BigInt(tag), i * 16);
    dynamic.writeBigUInt64LE(BigInt(value), i * 16 + 8);
  });
  return Buffer.concat([header, bytesOfStrings, dynamic]);
}

const LUA_TELLS = `resty-ts-doctor lua 10028
resty-ts-doctor luajit LuaJIT 2.1
`;
export const HEALTHY_TELLS = `${LUA_TELLS}resty-ts-doctor core 0.1.31
resty-ts-doctor library /opt/rts/libresty_ts.so
`;
export const NO_CORE =
  "failed to load the 'resty.core' module (reason: module 'resty.core' not found)";
export const NO_LIBRARY = `${LUA_TELLS}resty-ts-doctor core 0.1.31
resty-ts-doctor no-library libresty_ts.so is neither on package.cpath nor in /opt/rts/build/Release
`;

/** nginx, as far as doctor asks it. */
export function nginxScript({ tells = HEALTHY_TELLS, says = "" } = {}): string {
  return `#!/bin/sh
if [ "$1" = -V ]; then
  echo "nginx version: nginx/1.26.3" >&2
  echo "configure arguments: --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --modules-path=/usr/lib/nginx/modules" >&2
  exit 0
fi
cat <<'END'
${tells}END
echo "${says}" >&2
`;
}

export const nodeScript = (version: string): string => `#!/bin/sh\necho ${version}\n`;

export const NGINX_CONF = `user worker;
include modules-enabled/*.conf;
http {
  init_worker_by_lua_block {
    require("resty.ts").start { plugins = "/srv/plugins" }
  }
}
`;

const GLIBC = elfOf({ needed: ["libc.so.6"] });

/** A machine on which all is well: path to content; undefined: not there. */
const HEALTHY: Readonly<Record<string, string | Buffer>> = {
  "usr/sbin/nginx": nginxScript(),
  "etc/nginx/nginx.conf": NGINX_CONF,
  "etc/nginx/modules-enabled/50-lua.conf": "load_module modules/ngx_http_lua_module.so;\n",
  "usr/lib/nginx/modules/ngx_http_lua_module.so": GLIBC,
  "usr/lib/ld-linux-x86-64.so.2": "",
  "usr/lib/libc.so.6": "",
  "usr/lib/libnode.so.115": elfOf({ soname: "libnode.so.115", needed: ["libc.so.6"] }),
  "usr/bin/node": nodeScript("v20.11.1"),
  "opt/rts/libresty_ts.so": GLIBC,
  "opt/rts/libresty_ts_node115.so": GLIBC,
  "opt/rts/resty_ts.node": GLIBC,
  "srv/plugins/hello.ts": "",
  "tmp/.keep": "",
  "etc/passwd": "root:x:0:0::/root:/bin/sh\nworker:x:4321:4321::/:/bin/false\n",
  "etc/group": "root:x:0:\nworker:x:4321:\n",
};

/** @param changes to the healthy one; undefined: the file is not there. */
export function machineOf(
  t: TestContext,
  changes: Readonly<Record<string, string | Buffer | undefined>> = {},
): string {
  const root = folderOf(t);
  for (const [name, content] of Object.entries({ ...HEALTHY, ...changes })) {
    if (content === undefined) continue;
    const file = join(root, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    chmodSync(file, Buffer.from(content).toString("latin1", 0, 2) === "#!" ? 0o755 : 0o644);
  }
  chmodSync(join(root, "tmp"), 0o777);
  return root;
}
