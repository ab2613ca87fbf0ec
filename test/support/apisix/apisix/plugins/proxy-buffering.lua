-- Passes answers on as they come: the request goes on in another location, by a redirect in nginx.
local core = require "apisix.core"

local schema = {
    type = "object",
    properties = { disable_proxy_buffering = { type = "boolean", default = false } },
}

local _M = { version = 0.1, priority = 21991, name = "proxy-buffering", schema = schema }

function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end

function _M.rewrite(conf)
    ngx.ctx.disable_proxy_buffering = conf.disable_proxy_buffering
end

return _M
