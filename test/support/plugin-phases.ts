/** Short forms for tests of HTTP plugins: a plugin's file, and the directives that run it. */
import { join } from "node:path";
import { plainContent } from "./nginx-config.js";
import { INSTALLATION } from "./project.js";

/** The file of a plugin, from what is between definePlugin's braces. */
export const plugin = (body: string): string =>
  `import { definePlugin } from "resty-ts";\nexport default definePlugin({ ${body} });`;

/** `<phase>_by_lua_block` with resty.ts.http at hand. */
export const phase = (name: string, code: string): string =>
  `${name}_by_lua_block { local http = require "resty.ts.http" ${code} }`;

/** A chain of plugins in the phases of the bundled configuration. */
export const route = (name: string): string => `
  set $resty_ts_route ${name};
  include ${join(INSTALLATION.root, "conf", "resty_ts.conf")};`;

/** For plugins that take any configuration. */
export const ANY_CONF = `schema: { type: "object" },`;

/** An answer to see the request come through. */
export const ok = plainContent(`ngx.print("ok")`);
