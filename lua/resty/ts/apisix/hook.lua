-- The hooks ts-plugin-pre-req, -post-req and -post-resp: a list of TypeScript plugins by name, as
-- APISIX's ext-plugin-* take it.
--
-- Runs on the Lua side. Invariant: whatever goes wrong answers 503, or is let pass with
-- allow_degradation; either way the error log says what it was.

local contexts = require "resty.ts.apisix.contexts"
local core = require "apisix.core"
local phases = require "resty.ts.apisix.phases"
local runtime = require "resty.ts.apisix.runtime"
local values = require "resty.ts.values"

local ipairs = ipairs
local concat = table.concat

local CLOSED = { on_error = 503, on_timeout = 503, on_overload = 503 }
local OPEN = { on_error = 0, on_timeout = 0, on_overload = 0 }

local schema = {
    type = "object",
    properties = {
        conf = {
            type = "array",
            items = {
                type = "object",
                properties = {
                    name = { type = "string", minLength = 1, maxLength = 128 },
                    value = { type = "string" },
                },
                required = { "name", "value" },
            },
            minItems = 1,
        },
        allow_degradation = { type = "boolean", default = false },
    },
}

local _M = {}


local function title(own)
    local names = {}
    for i, one in ipairs(own.conf or {}) do
        names[i] = one.name
    end
    return concat(names, ", ")
end


local function members(own, hook)
    local list = {}
    for i, one in ipairs(own.conf or {}) do
        local policy = own.allow_degradation and "open" or 503
        list[i] = values.array {
            one.name, one.value,
            { hook = hook, priority = 0, on_error = policy, on_timeout = policy,
              on_overload = policy },
        }
    end
    return list
end


-- APISIX's plugin. spec: { name, hook = "pre-req", "post-req" or "post-resp", priority,
-- phases = list of names, skips(api_ctx) or nil }.
function _M.new(spec)
    local object = {
        version = 0.1,
        priority = spec.priority,
        name = spec.name,
        schema = schema,
    }
    local runner = {
        name = spec.name,
        strict = true,
        index = contexts.new_index(),
        title = title,
        members = function(own)
            return members(own, spec.hook)
        end,
        policies = function(own)
            return own.allow_degradation and OPEN or CLOSED
        end,
        replaces = true,
        skips = spec.skips,
    }

    function object.check_schema(conf)
        return core.schema.check(schema, conf)
    end

    runtime.follow(object)

    for _, name in ipairs(spec.phases) do
        -- In a hook the plugins' rewrite runs their access handlers, too.
        phases.add(object, runner, name, name == "access" and { "rewrite" } or nil)
    end
    phases.complete(object, runner)
    return object
end


return _M
