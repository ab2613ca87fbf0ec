-- The control API, and the API of plugins that the plugin public-api serves (apisix.router).
--
-- What must stay true, as in APISIX: handlers of control_api() get no ctx and run in a content
-- phase on a server of their own; those of api() get the request's ctx and run in its access phase;
-- both answer with a status and a body, a table of which is JSON. The lists are made again when the
-- plugins were loaded again.
local core = require "apisix.core"
local plugin = require "apisix.plugin"
local router = require "stand_in.router"
local follow = require "stand_in.follow"

local _M = {}

local function answer(code, body)
    if code or body then
        if type(body) == "table" and ngx.header["Content-Type"] == nil then
            core.response.set_header("Content-Type", "application/json")
        end
        core.response.exit(code, body)
    end
end

local function of_plugins(method_name, paths_of)
    local made_for, rows
    return function()
        if made_for ~= plugin.load_times then
            local entries = {}
            for _, loaded in ipairs(plugin.plugins) do
                for _, route in ipairs(loaded[method_name] and loaded[method_name]() or {}) do
                    local paths = paths_of(route)
                    entries[#entries + 1] = {
                        paths = type(paths) == "table" and paths or { paths },
                        methods = route.methods, value = route.handler,
                    }
                end
            end
            made_for, rows = plugin.load_times, router.new(entries)
        end
        return rows
    end
end

-- One has `uri`, the other `uris`.
local public_rows = of_plugins("api", function(route) return route.uri end)
local control_rows = of_plugins("control_api", function(route) return route.uris end)

-- True when a plugin's API answered.
function _M.public(ctx)
    local handler = router.match(public_rows(), ctx.var.request_method, ctx.var.uri)
    if handler then
        answer(handler(ctx))
    end
    return handler ~= nil
end

local SCHEMA_ATTRS = {
    version = true, priority = true, schema = true, metadata_schema = true, consumer_schema = true,
    type = true, scope = true,
}

local BUILT_IN = router.new {
    { paths = { "/v1/schema" }, methods = { "GET" }, value = function()
        return 200, core.json.encode({ plugins = (plugin.get_all(SCHEMA_ATTRS)) }, true)
    end },
    { paths = { "/v1/plugins/reload" }, methods = { "PUT" }, value = function()
        follow.announce("plugins")
        return 200, "done"
    end },
    { paths = { "/v1/plugin_metadata/*" }, methods = { "GET" }, value = function()
        local name = ngx.var.uri:match("([^/]*)$")
        local metadata = plugin.plugin_metadata(name)
        if not metadata then
            return 404, { error_msg = ("plugin metadata[%s] not found"):format(name) }
        end
        return 200, metadata.value
    end },
    -- The test's own.
    { paths = { "/stand-in/changed" }, methods = { "PUT" }, value = function()
        follow.announce("config")
        return 200, "done"
    end },
    { paths = { "/stand-in/state" }, methods = { "GET" }, value = function()
        return 200, follow.state()
    end },
    { paths = { "/stand-in/forget" }, methods = { "PUT" }, value = function()
        core.lrucache.stand_in_forget()
        return 200, "done"
    end },
}

-- A request to the control server.
function _M.control()
    local method, path = ngx.req.get_method(), ngx.var.uri
    local handler = router.match(control_rows(), method, path)
        or router.match(BUILT_IN, method, path)
    if not handler then
        return ngx.exit(404)
    end
    answer(handler())
end

return _M
