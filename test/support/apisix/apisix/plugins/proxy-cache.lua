-- Keeps the upstream's answers to GET and HEAD by nginx's proxy_cache (the test's nginx.conf has
-- the zone); what it keeps is the answer before any filter has changed it.
local core = require "apisix.core"

local schema = {
    type = "object",
    properties = { cache_zone = { type = "string", default = "disk_cache_one" } },
}

local _M = { version = 0.2, priority = 1085, name = "proxy-cache", schema = schema }

function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end

local function may_keep(ctx)
    return ctx.var.request_method == "GET" or ctx.var.request_method == "HEAD"
end

function _M.access(conf, ctx)
    ctx.var.upstream_cache_key = ctx.var.host .. ctx.var.request_uri
    ctx.var.upstream_cache_zone = conf.cache_zone
    if not may_keep(ctx) then
        ctx.var.upstream_cache_bypass = "1"
    end
end

function _M.header_filter(_conf, ctx)
    core.response.set_header("Apisix-Cache-Status", ctx.var.upstream_cache_status)
    ctx.var.upstream_no_cache = may_keep(ctx) and ngx.status == 200 and "0" or "1"
end

return _M
