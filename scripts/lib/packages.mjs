// What the project needs of the system, how to see that it is there, and the Debian or Ubuntu package that brings it.
// It is looked for by what it does (a command, a file), not by package: OpenResty's nginx or a cmake from elsewhere count too.
import { existsSync, readdirSync } from "node:fs";
import { capture, which } from "./run.mjs";

/** @typedef {"demo" | "test" | "bench"} Group */
/** @typedef {{ what: string, groups: Group[], found: () => boolean, packages: () => string[] }} Need */

const ALL = /** @type {Group[]} */ (["demo", "test", "bench"]);
const NOT_DEMO = /** @type {Group[]} */ (["test", "bench"]);
const TEST = /** @type {Group[]} */ (["test"]);

/** @param {string} name @param {Group[]} groups @param {string} [from] @returns {Need} */
const command = (name, groups, from = name) => ({
  what: name,
  groups,
  found: () => which(name) !== undefined,
  packages: () => [from],
});

/** @param {string} what @param {Group[]} groups @param {string} from @param {string[]} files any of these will do @returns {Need} */
const file = (what, groups, from, ...files) => ({
  what,
  groups,
  found: () => files.some((name) => existsSync(name)),
  packages: () => [from],
});

/** Files of one name below each multiarch folder (/usr/lib/x86_64-linux-gnu and so on). @param {string} rest */
function multiarch(rest) {
  const folders = existsSync("/usr/lib")
    ? readdirSync("/usr/lib").filter((name) => name.endsWith("-linux-gnu"))
    : [];
  return [`/usr/lib/${rest}`, ...folders.map((name) => `/usr/lib/${name}/${rest}`)];
}

/** clang's own run-time library has clang's major version in its package name. */
function clangRuntime() {
  const depends = capture("apt-cache", ["depends", "clang"]).stdout;
  return `libclang-rt-${/Depends: clang-(\d+)/.exec(depends)?.[1] ?? "14"}-dev`;
}

/** @returns {boolean} */
function hasClangRuntime() {
  const folder = capture("clang", ["-print-resource-dir"]).stdout.trim();
  if (folder === "") return false;
  const libraries = `${folder}/lib/linux`;
  return (
    existsSync(libraries) &&
    readdirSync(libraries).some((name) => name.startsWith("libclang_rt.fuzzer"))
  );
}

/** @type {Need[]} */
export const needs = [
  command("nginx", ALL),
  file(
    "nginx's Lua module",
    ALL,
    "libnginx-mod-http-lua",
    "/usr/lib/nginx/modules/ngx_http_lua_module.so",
  ),
  file("lua-resty-core", ALL, "lua-resty-core", "/usr/share/lua/5.1/resty/core.lua"),
  command("luajit", ALL, "luajit2"),
  command("gcc", ALL),
  command("g++", ALL),
  command("make", ALL),
  command("cmake", ALL),
  file(
    "nginx's JavaScript module",
    NOT_DEMO,
    "libnginx-mod-http-js",
    "/usr/lib/nginx/modules/ngx_http_js_module.so",
  ),
  file("lua-cjson", NOT_DEMO, "lua-cjson", ...multiarch("lua/5.1/cjson.so")),
  file("LuaJIT's headers", TEST, "libluajit2-5.1-dev", "/usr/include/luajit-2.1/lua.h"),
  command("openssl", NOT_DEMO),
  command("wrk", NOT_DEMO),
  command("strace", NOT_DEMO),
  command("ps", NOT_DEMO, "procps"),
  command("curl", NOT_DEMO),
  command("redis-server", TEST),
  command("python3", TEST),
  command("clang", TEST),
  {
    what: "clang's run-time library",
    groups: TEST,
    found: hasClangRuntime,
    packages: () => [clangRuntime()],
  },
  command("clang-format", TEST),
  command("clang-tidy", TEST),
  command("luacheck", TEST, "lua-check"),
  // Building for arm64 and for musl, and running it here.
  command("aarch64-linux-gnu-gcc", TEST, "gcc-aarch64-linux-gnu"),
  command("aarch64-linux-gnu-g++", TEST, "g++-aarch64-linux-gnu"),
  command("qemu-aarch64", TEST, "qemu-user"),
  command("musl-gcc", TEST, "musl-tools"),
];

/** @param {Group} group */
export function missing(group) {
  return needs.filter((need) => need.groups.includes(group) && !need.found());
}
