-- core.schema: checks of configurations, and what APISIX adds to every plugin's schema.
local json_schema = require "stand_in.json_schema"

local _M = {
    version = 0.3,
    TYPE_CONSUMER = 1,
    TYPE_METADATA = 2,
    plugin_injected_schema = {
        ["$comment"] = "this is a mark for our injected plugin schema",
        _meta = {
            type = "object",
            properties = {
                disable = { type = "boolean" },
                error_response = { oneOf = { { type = "string" }, { type = "object" } } },
                priority = { type = "integer" },
                filter = { type = "array" },
                pre_function = { type = "string" },
            },
            additionalProperties = false,
        },
    },
}

function _M.check(schema, value)
    local ran, ok, err = pcall(json_schema.check, schema, value)
    if not ran then
        return false, ok
    end
    return ok, err
end

function _M.valid(schema)
    return function(value)
        return _M.check(schema, value)
    end
end

return setmetatable({}, {
    __index = _M,
    __newindex = function() error("no modification allowed") end,
})
