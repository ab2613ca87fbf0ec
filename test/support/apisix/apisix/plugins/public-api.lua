-- The plugin that serves what other plugins give by api(), on the route that it is bound to.
local core = require "apisix.core"
local apis = require "stand_in.apis"

local schema = { type = "object", properties = { uri = { type = "string" } } }

local _M = { version = 0.1, priority = 501, name = "public-api", schema = schema }

function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end

function _M.access(conf, ctx)
    ctx.var.uri = conf.uri or ctx.var.uri
    if not apis.public(ctx) then
        return 404
    end
end

return _M
