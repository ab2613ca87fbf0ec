-- Sends a copy of each request to `host`, by nginx's mirror directive (the test's nginx.conf).
local core = require "apisix.core"

local schema = {
    type = "object", properties = { host = { type = "string" } }, required = { "host" },
}

local _M = { version = 0.1, priority = 1010, name = "proxy-mirror", schema = schema }

function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end

function _M.rewrite(conf, ctx)
    local var = ctx.var
    local uri = var.upstream_uri
    if not uri or uri == "" then
        uri = var.uri .. var.is_args .. (var.args or "")
    end
    var.upstream_mirror_host = conf.host
    var.upstream_mirror_uri = conf.host .. uri
end

return _M
