-- A stand-in for apisix.upstream: what a plugin needs to send a request elsewhere.
-- Runs in the phases of a request before the upstream is asked.
local core = require "apisix.core"

local _M = {}

local schema = {
    type = "object",
    properties = {
        nodes = {
            anyOf = {
                { type = "object" },
                {
                    type = "array",
                    items = {
                        type = "object",
                        properties = {
                            host = { type = "string", pattern = "^[0-9a-zA-Z.:\\[\\]-]+$" },
                            port = { type = "integer", minimum = 1, maximum = 65535 },
                            weight = { type = "integer", minimum = 0 },
                        },
                        required = { "host", "weight" },
                    },
                },
            },
        },
        type = { type = "string", default = "roundrobin" },
        scheme = { enum = { "grpc", "grpcs", "http", "https" }, default = "http" },
    },
}

function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end

-- The request's upstream in place of the route's. key, version: of what APISIX makes for it.
function _M.set(ctx, key, version, conf)
    for name, value in pairs { ctx = ctx or false, key = key or false, ver = version or false,
                               conf = conf or false } do
        if not value then
            error("missing argument " .. name, 2)
        end
    end
    ctx.upstream_conf, ctx.upstream_version, ctx.upstream_key = conf, version, key
end

function _M.get_by_id(id)
    local item = core.config.fetch_created_obj("/upstreams"):get(id)
    return item and item.value
end

return _M
