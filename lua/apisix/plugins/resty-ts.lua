-- APISIX's plugin resty-ts: has the runtime start with the worker, and tells of it by the control
-- API (docs/apisix/install.md). It takes part in no request.

local core = require "apisix.core"
local runtime = require "resty.ts.apisix.runtime"
local status = require "resty.ts.apisix.status"

local _M = {
    version = 0.1,
    priority = 0,
    name = "resty-ts",
    schema = { type = "object", properties = {} },
}


function _M.check_schema(conf)
    return core.schema.check(_M.schema, conf)
end


runtime.follow(_M)


function _M.control_api()
    return {
        { methods = { "GET" }, uris = { "/v1/plugin/resty-ts" }, handler = status.report },
    }
end


return _M
