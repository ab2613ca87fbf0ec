-- The Lua side of the plots (npm run bench -- --plots): what grows, in pure Lua and for the bridge.

local http -- resty.ts.http, where Node runs

local _M = {}

-- Chains of so many plugins; each sets a request field of its own from one that the client sent.

local chains, links = {}, {}

local function link(i)
    local name = "x-link-" .. i
    return function()
        ngx.req.set_header(name, ngx.var.http_x_request_id)
    end
end

function _M.make_chains(most)
    http = require "resty.ts.http"
    local list = {}
    for i = 1, most do
        links[i] = link(i)
        list[i] = { "bench-link-" .. i }
        chains[i] = http.chain { unpack(list) }
    end
end

function _M.lua_chain(length)
    for i = 1, length do
        links[i]()
    end
end

function _M.ts_chain(length)
    chains[length]:access()
end

-- Routes with a configuration each, which are used in turns.

local confs, count, turn = {}, 0, 0

local function make_confs(most)
    count = most
    for i = 1, most do
        confs[i] = { tenant = "tenant-" .. i, limits = { rate = i, burst = 2 * i } }
    end
end

_M.make_lua_routes = make_confs

function _M.make_ts_inline(most)
    http = require "resty.ts.http"
    make_confs(most)
end

function _M.make_ts_routes(most)
    _M.make_ts_inline(most)
    for i = 1, most do
        http.route("route-" .. i, { { "bench-route", confs[i] } })
    end
end

local function next_turn()
    turn = turn % count + 1
    return turn
end

function _M.lua_route()
    ngx.req.set_header("x-tenant", confs[next_turn()].tenant)
end

function _M.ts_route()
    ngx.var.resty_ts_route = "route-" .. next_turn()
    http.run()
end

-- Configurations as APISIX has them: a table in each call, which no route names.
function _M.ts_inline()
    http.access("bench-route", confs[next_turn()])
end

-- Bodies.

local bodies = {}

local function body_of(bytes)
    bodies[bytes] = bodies[bytes] or ("x"):rep(bytes)
    return bodies[bytes]
end

function _M.set_body(bytes)
    ngx.req.read_body()
    ngx.req.set_body_data(body_of(bytes))
end

function _M.body_length()
    ngx.req.read_body()
    ngx.print(#ngx.req.get_body_data())
end

local PIECE = 16 * 1024

function _M.stream(bytes)
    local body = body_of(bytes)
    for at = 1, bytes, PIECE do
        ngx.print(body:sub(at, at + PIECE - 1))
        ngx.flush(true)
    end
end

-- Start: from init_worker to the end of the first request, which waits for Node and all plugins.

local began

function _M.begin()
    ngx.update_time()
    began = ngx.now()
end

function _M.print_ms()
    ngx.update_time()
    ngx.print((ngx.now() - began) * 1000)
end

return _M
