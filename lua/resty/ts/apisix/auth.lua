-- The configuration that a plugin of type "auth" has in a request. Once the consumer is known
-- APISIX puts what the consumer has for the plugin, its credentials, in the place of the route's.
--
-- Runs on the Lua side, in a request's phases. Invariants: a handler has the configuration that the
-- plugin began the request with; a consumer's credentials are no handler's configuration, and where
-- they are the only one the plugin does not run.

local request = require "resty.ts.http.request"

local error = error
local match = string.match
local type = type

local OF_CONSUMERS = { consumers = true, consumer_groups = true }

local _M = {}


-- The resource that it stands in, { resource_key, resource_version }, or nil: it is within another
-- plugin's.
local function parent_of(conf)
    local meta = conf._meta
    return type(meta) == "table" and meta.parent or nil
end


local function is_consumers(conf)
    local parent = parent_of(conf)
    return parent and OF_CONSUMERS[match(parent.resource_key, "([^/]+)/[^/]+$")]
end


-- The configuration for the plugin's handlers when APISIX gives them this one; nil: they do not
-- run.
local function conf_of(name, conf, api_ctx)
    -- Consumers change nothing in global rules, which may have the plugin beside the route.
    if api_ctx.conf_type == "global_rule" then
        return conf
    end
    local state = request.get()
    local began = state.auth_confs
    if is_consumers(conf) then
        return began and began[name]
    end
    if not began then
        began = {}
        state.auth_confs = began
    end
    began[name] = conf
    return conf
end


-- The handler of a phase of the plugin, with the right configuration.
function _M.handler(name, handler)
    return function(conf, api_ctx)
        conf = conf_of(name, conf, api_ctx)
        if conf then
            return handler(conf, api_ctx)
        end
    end
end


-- For a plugin that has no rewrite: there it would begin, before consumers are known.
function _M.beginning(name)
    return function(conf, api_ctx)
        if not parent_of(conf) then
            -- Who calls it, as multi-auth does, would take silence for a yes.
            error("plugin " .. name .. " has no rewrite handler, so that no other plugin can have "
                  .. "it find the consumer: give it one, or list it by itself", 0)
        end
        conf_of(name, conf, api_ctx)
    end
end


return _M
