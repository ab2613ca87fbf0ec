-- What a TypeScript plugin has once in a worker, beside its configurations: apisix.init, destroy,
-- and the routes of APISIX's public and control API.
--
-- Runs on the Lua side. Invariant: all of a plugin's routes run in one chain, whose setup is its
-- init and whose teardown its destroy.

local chains = require "resty.ts.http.chain"
local gateway = require "resty.ts.apisix.gateway"
local request = require "resty.ts.http.request"
local run = require("resty.ts.http.run").unchecked
local runtime = require "resty.ts.apisix.runtime"
local values = require "resty.ts.values"

local ngx = ngx
local ipairs = ipairs

local CLOSED = require("resty.ts.http.options").CLOSED

local _M = {}


local function new_chain(spec)
    return chains.of({ values.array { spec.plugin, values.null, { worker = true } } }, spec.name,
                     CLOSED)
end


-- spec: the plugin's. Returns init and destroy for APISIX, and routes(list, routes).
function _M.new(spec)
    local chain
    local of = {}

    function of.init()
        runtime.enter(spec.name)
        if spec.worker then
            chain = new_chain(spec)
            chain:configure_soon()
        end
    end

    function of.destroy()
        if runtime.leave(spec.name) and chain then
            chain:close()
            chain = nil
        end
    end

    local function handler(key)
        local chunk = values.bytes(key)
        return function(api_ctx)
            local state = request.get()
            -- The control API has no api_ctx: there nginx alone serves the request.
            local in_apisix = ngx.ctx.api_ctx ~= nil and api_ctx == ngx.ctx.api_ctx
            if in_apisix then
                gateway.begin(state, api_ctx, spec.name, nil)
            end
            run.content(chain, chunk)
            if in_apisix then
                return state.status, state.body
            end
        end
    end

    -- list: "api" or "control". routes: the spec's.
    function of.routes(list, routes)
        local found = {}
        for i, route in ipairs(routes) do
            local run_it = handler(list .. "/" .. i - 1)
            found[i] = {
                methods = route.methods,
                uri = route.uris,       -- of the public API
                uris = route.uris,      -- of the control API
                handler = run_it,
            }
        end
        return found
    end

    return of
end


return _M
