/**
 * Lua plugins that tell what APISIX does with them: each handler notes its name, phase and
 * configuration, and the control API tells the notes.
 */
import type { Apisix } from "./apisix.js";
import { until } from "./deadline.js";

/** A handler that ran: "name phase conf.name" and which resource the request was at. */
export interface Note {
  plugin: string;
  phase: string;
  /** `name` of the configuration. */
  conf: string;
  /** The request's conf_type, conf_id and conf_version. */
  type?: string;
  id?: string;
  version?: string;
}

const PHASES = [
  "rewrite",
  "access",
  "before_proxy",
  "header_filter",
  "body_filter",
  "delayed_body_filter",
  "log",
];

/** @param extra Lua that adds to `_M`, with `note(phase, conf, ctx)` and `core` at hand. */
export function probe(name: string, priority: number, extra = ""): string {
  return `
local core = require "apisix.core"

-- Outlives the module: plugin hot reload takes that away.
local notes = package.loaded["test.notes"] or {}
package.loaded["test.notes"] = notes

local function note(phase, conf, ctx)
    notes[#notes + 1] = {
        plugin = "${name}", phase = phase, conf = conf and conf.name,
        type = ctx and ctx.conf_type, id = ctx and tostring(ctx.conf_id),
        version = ctx and tostring(ctx.conf_version),
    }
end

local _M = {
    version = 0.1, priority = ${String(priority)}, name = "${name}",
    schema = {
        type = "object",
        properties = {
            name = { type = "string", minLength = 2 },
            status = { type = "integer" },
            phase = { type = "string", default = "access" },
        },
        required = { "name" },
        additionalProperties = false,
    },
}

function _M.check_schema(conf)
    return core.schema.check(_M.schema, conf)
end

for _, phase in ipairs { ${PHASES.map((phase) => `"${phase}"`).join(", ")} } do
    _M[phase] = function(conf, ctx)
        if phase:find("body_filter") and not ngx.arg[2] then
            return
        end
        note(phase, conf, ctx)
        if conf.status and conf.phase == phase then
            return conf.status, { by = "${name}" }
        end
    end
end

function _M.init()
    note("init")
end

function _M.destroy()
    note("destroy")
end

function _M.control_api()
    return { {
        methods = { "GET" }, uris = { "/v1/plugin/${name}/notes" },
        handler = function(ctx)
            return 200, { notes = notes, ctx = ctx == nil }
        end,
    }, {
        methods = { "DELETE" }, uris = { "/v1/plugin/${name}/notes" },
        handler = function()
            core.table.clear(notes)
            return 200, "done"
        end,
    } }
end

${extra}

return _M
`;
}

export async function notesOf(apisix: Apisix, plugin: string): Promise<Note[]> {
  const reply = await apisix.control(`/v1/plugin/${plugin}/notes`);
  const { notes } = reply.json<{ notes: Note[] | Record<string, never> }>();
  return Array.isArray(notes) ? notes : [];
}

export async function forgetNotes(apisix: Apisix, plugin: string): Promise<void> {
  await apisix.control(`/v1/plugin/${plugin}/notes`, { method: "DELETE" });
}

/** The notes of what `body` asks for, once `logs` log phases have come. */
export async function notesDuring(
  apisix: Apisix,
  plugin: string,
  logs: number,
  body: () => Promise<void>,
): Promise<Note[]> {
  await forgetNotes(apisix, plugin);
  await body();
  let notes: Note[] = [];
  await until(
    `${String(logs)} log phases`,
    async () => {
      notes = await notesOf(apisix, plugin);
      return notes.filter(({ phase }) => phase === "log").length >= logs;
    },
    10_000,
    () => JSON.stringify(notes),
  );
  return notes;
}
