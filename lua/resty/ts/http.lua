-- HTTP plugins in TypeScript, run from nginx's phases (docs/lua-api.md, "HTTP plugins").
--
--     access_by_lua_block        { require("resty.ts.http").access("jwt-auth", { secret = "…" }) }
--     header_filter_by_lua_block { require("resty.ts.http").header_filter("jwt-auth") }
--
-- Runs on the Lua side, in nginx only. Invariant: a mistake of the caller's is error(); what goes
-- wrong with a plugin is in the error log and answered as its policies say. Nothing is returned.

if not ngx or not ngx.get_phase then
    error("resty.ts.http is for nginx: outside of it there are no requests", 2)
end

local chains = require "resty.ts.http.chain"
local host = require "resty.ts.http.host"
local options = require "resty.ts.http.options"
local phases = require "resty.ts.http.phases"
local policy = require "resty.ts.http.policy"
local request = require "resty.ts.http.request"
local run = require "resty.ts.http.run"

local ngx = ngx
local error = error
local type = type
local setmetatable = setmetatable
local tostring = tostring

local _M = {}

-- Of names that requests make up nothing stays when these requests have ended.
local weak = { __mode = "v" }
-- name -> a key for the request's state.
local names = setmetatable({}, weak)
local routes = {}
-- In the place of a chain that there is not.
local unrouted = {}


-- While there is no client a plugin has no token: its policies are asked without one.
local unstarted = setmetatable({}, weak)

local function unstarted_chain(name, level)
    local chain = unstarted[name]
    if not chain then
        chain = chains.new({ name }, level + 1)
        unstarted[name] = chain
    end
    return chain
end


-- The chain for what the functions below are given.
local function chain_of(plugin, conf, level)
    if type(plugin) ~= "string" then
        if not chains.is(plugin) then
            error("a plugin's name or what http.chain returns is wanted, not "
                  .. tostring(plugin), level + 1)
        end
        return plugin
    end
    options.check_name(plugin, level + 1)
    local key = names[plugin]
    if not key then
        key = {}
        names[plugin] = key
    end
    if conf == nil then
        local state = request.peek()
        local chain = state and state[key]
        if chain then
            return chain
        end
    else
        options.check_conf(conf, plugin, level + 1)
    end
    if not host.client() then
        return unstarted_chain(plugin, level + 1)
    end
    local chain = chains.single(plugin, conf, level + 1)
    request.get()[key] = chain
    return chain
end


-- The functions for nginx's phases: each runs the plugin's handler of its name.
-- plugin: a plugin's name, or a chain. conf: the plugin's configuration; nil: what it was last used
-- with in this request, else an empty one.

function _M.rewrite(plugin, conf)
    return run.rewrite(chain_of(plugin, conf, 2))
end


function _M.access(plugin, conf)
    return run.access(chain_of(plugin, conf, 2))
end


-- To be called after access, before the request goes to the upstream.
function _M.before_proxy(plugin, conf)
    return run.before_proxy(chain_of(plugin, conf, 2))
end


function _M.content(plugin, conf)
    return run.content(chain_of(plugin, conf, 2))
end


function _M.header_filter(plugin, conf)
    return run.header_filter(chain_of(plugin, conf, 2))
end


function _M.body_filter(plugin, conf)
    return run.body_filter(chain_of(plugin, conf, 2))
end


-- To be called after body_filter.
function _M.delayed_body_filter(plugin, conf)
    return run.delayed_body_filter(chain_of(plugin, conf, 2))
end


function _M.log(plugin, conf)
    return run.log(chain_of(plugin, conf, 2))
end


-- Where Lua runs for no request.
local ONCE = { init = true, init_worker = true, timer = true, exit_worker = true }

local function new_chain(list, level)
    local chain = chains.new(list, level + 1)
    if ngx.get_phase() ~= "init" then
        chain:configure_soon()
    end
    return chain
end


-- A chain of plugins, to be made once, outside of requests, as it stays until it is closed:
-- { { name = "cors", conf = {...} }, { "jwt-auth", {...}, on_error = "open", timeout_ms = 200 } }.
-- Returns an object with rewrite(), access(), before_proxy(), content(), header_filter(),
-- body_filter(), delayed_body_filter(), log() and close().
function _M.chain(list)
    local phase = ngx.get_phase()
    if not ONCE[phase] then
        error("http.chain in " .. phase .. "_by_lua* would make a chain for each request: make it "
              .. "once, in init_by_lua*, init_worker_by_lua* or a timer, and keep it", 2)
    end
    return new_chain(list, 2)
end


-- Names a chain for http.run. One that had the name before is closed.
function _M.route(name, list)
    if type(name) ~= "string" or name == "" then
        error("a route's name is a string, not " .. tostring(name), 2)
    end
    local chain = new_chain(list, 2)
    if routes[name] then
        routes[name]:close()
    end
    routes[name] = chain
end


-- What follows in the same phase of nginx's.
local NEXT = { access = run.before_proxy, body_filter = run.delayed_body_filter }

-- The chain of $resty_ts_route, as it was when this request first asked; false: "off". Later the
-- variable may be a subrequest's, auth_request's say: nginx shares variables with these.
local function routed()
    local state = request.get()
    local chain = state.route
    if chain == nil then
        local name = ngx.var.resty_ts_route or ""
        chain = name ~= "off" and (routes[name] or unrouted)
        state.route = chain
    end
    return chain
end


-- $resty_ts_route names no route: nothing goes on as if the plugins had let it pass.
local function refuse_unrouted(phase)
    local state, name = request.get(), ngx.var.resty_ts_route or ""
    -- nginx's own error page, of a request that it has not taken, has no phase before.
    if not phase.answers and not state.unrouted and ngx.status >= 400
       and not ngx.var.upstream_status
    then
        return
    end
    if not state.unrouted then
        state.unrouted = true
        policy.log(phase, "$resty_ts_route", name == ""
            and "it has no value: set $resty_ts_route NAME; or, for no plugins, off"
            or "there is no route " .. name .. ': http.route("' .. name .. '", { ... }) in '
               .. "init_by_lua* or init_worker_by_lua* makes it")
    end
    if phase.answers or not state.answered then
        return policy.refuse(phase, 500)
    end
end


-- Runs the chain that http.route gave the name in $resty_ts_route, in any phase: before_proxy after
-- access, delayed_body_filter after body_filter. Where the variable says "off" it does nothing.
function _M.run()
    local name = ngx.get_phase()
    local runner = run[name]
    if not runner then
        error("plugins have no phase " .. name, 2)
    end
    local chain = routed()
    if chain == unrouted then
        return refuse_unrouted(phases[name])
    elseif chain then
        runner(chain)
        if NEXT[name] then
            NEXT[name](chain)
        end
    end
end


-- In balancer_by_lua*: the upstream is the address that a plugin gave with ctx.setUpstream.
function _M.balancer()
    local state = request.peek()
    if not state or not state.upstream_host then
        error("no plugin has set an upstream's address (ctx.setUpstream) for this request", 2)
    end
    local ok, err = require("ngx.balancer").set_current_peer(state.upstream_host,
                                                             state.upstream_port)
    if not ok then
        error("the upstream's address " .. state.upstream_host .. " was refused: "
              .. tostring(err), 2)
    end
end


return _M
