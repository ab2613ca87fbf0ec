-- The functions that APISIX calls in its phases, of plugins that run a chain.
--
-- Runs on the Lua side, in a request's phases. Invariant: a function of a phase that can answer
-- returns APISIX's code and body when the plugin does.

local auth = require "resty.ts.apisix.auth"
local contexts = require "resty.ts.apisix.contexts"
local fields = require "resty.ts.http.fields"
local gateway = require "resty.ts.apisix.gateway"
local request = require "resty.ts.http.request"
local run = require("resty.ts.http.run").unchecked
local whole = require "resty.ts.http.whole"

local ngx = ngx
local ipairs = ipairs

local begin = gateway.begin
local chain_of = contexts.chain
local get_phase = ngx.get_phase
local get_state = request.get
local peek_state = request.peek
local replaced = gateway.replaced

local _M = {}


-- The answer that a plugin has given, as APISIX wants it.
local function answer_of(state, conf)
    local status, body = state.status, state.body
    if status and status >= 400 then
        local meta = conf._meta
        if meta and meta.error_response then
            -- What APISIX says in place of the plugin's body has a type of its own.
            ngx.header["Content-Type"] = nil
            body = meta.error_response
        end
    end
    return status, body
end


-- rewrite, access, before_proxy. first, second: of run.lua; the second, if any, unless the first
-- has answered.
local function request_phase(plugin, first, second)
    return function(conf, api_ctx)
        local state = get_state()
        begin(state, api_ctx, plugin.name, conf)
        local chain = chain_of(plugin, conf, api_ctx, plugin.metadata and plugin.metadata())
        first(chain)
        if second and not state.status then
            second(chain)
        end
        if state.status then
            return answer_of(state, conf)
        end
    end
end


-- APISIX runs it in the access phase, and once more in the balancer's for each further node that
-- nginx tries: nothing can wait there, and what the plugin has changed is still so.
local function before_proxy(handler)
    return function(conf, api_ctx)
        if get_phase() ~= "balancer" then
            return handler(conf, api_ctx)
        end
    end
end


local function header_filter(plugin)
    local runner, replaces = run.header_filter, plugin.replaces
    return function(conf, api_ctx)
        if plugin.skips and plugin.skips(api_ctx) then
            return
        end
        local state = get_state()
        begin(state, api_ctx, plugin.name, conf)
        state.replaces = replaces
        runner(chain_of(plugin, conf, api_ctx, plugin.metadata and plugin.metadata()))
    end
end


local function body_filter(plugin, runner)
    return function(conf, api_ctx)
        if plugin.skips and plugin.skips(api_ctx) then
            return
        end
        if replaced(peek_state(), conf) then
            return
        end
        begin(get_state(), api_ctx, plugin.name, conf)
        runner(chain_of(plugin, conf, api_ctx, plugin.metadata and plugin.metadata()))
    end
end


local function log(plugin)
    local runner = run.log
    return function(conf, api_ctx)
        begin(get_state(), api_ctx, plugin.name, conf)
        runner(chain_of(plugin, conf, api_ctx, plugin.metadata and plugin.metadata()))
    end
end


local function handler_of(plugin, name, runs)
    if name == "header_filter" then
        return header_filter(plugin)
    elseif name == "body_filter" or name == "delayed_body_filter" then
        return body_filter(plugin, run[name])
    elseif name == "log" then
        return log(plugin)
    end
    runs = runs or { name }
    local handler = request_phase(plugin, run[runs[1]], run[runs[2]])
    return name == "before_proxy" and before_proxy(handler) or handler
end


-- Before the upstream: it is asked for what the filters of bodies can change.
local function ask(plugin)
    return function(conf, api_ctx)
        local chain = chain_of(plugin, conf, api_ctx, plugin.metadata and plugin.metadata())
        local version = chain.version
        if not version or version.filters_body then
            local state = get_state()
            begin(state, api_ctx, plugin.name, conf)
            whole.ask(state)
        end
    end
end


-- What was set before the response is in place of the upstream's.
local function override()
    local state = peek_state()
    if state and state.overrides then
        fields.override(state)
    end
end


-- Adds to an object what it has no handler for, and must have for those that it has.
function _M.complete(object, plugin)
    local waits = object.rewrite or object.access or object.before_proxy
    if object.body_filter or object.delayed_body_filter then
        object.header_filter = object.header_filter or header_filter(plugin)
        if not waits then
            object.access = ask(plugin)
        end
    elseif waits then
        object.header_filter = object.header_filter or override
    end
end


-- Adds the function of a phase to APISIX's plugin object. plugin: contexts.chain's, and
-- metadata() or nil; replaces: whether header_filter may answer in the response's place;
-- skips(api_ctx) or nil; auth: whether it is of type "auth".
-- runs: the chain's phases that run in this function, where they are others.
function _M.add(object, plugin, name, runs)
    local handler = handler_of(plugin, name, runs)
    object[name] = plugin.auth and auth.handler(plugin.name, handler) or handler
end


-- The names of the phases that there are.
_M.names = {}
for _, name in ipairs { "rewrite", "access", "before_proxy", "header_filter", "body_filter",
                        "delayed_body_filter", "log" } do
    _M.names[name] = true
end


return _M
