-- Which node of a route's upstream a request goes to, and nginx's balancer phase.
-- `pick` runs in the access phase; `balance` in balancer_by_lua, where nothing yields: there
-- before_proxy runs again when nginx tries another node.
local balancer = require "ngx.balancer"
local log = require "apisix.core.log"
local response = require "apisix.core.response"

local _M = {}

local turn = 0

-- { host, port, upstream_host } of nodes as a map of "host:port" to weights, or as a list.
local function nodes_of(upstream)
    local nodes = {}
    for key, node in pairs(upstream.nodes or {}) do
        local host, port
        if type(node) == "table" then
            host, port = node.host, node.port
        else
            host, port = key:match("^(.*):(%d+)$")
            host = host or key
        end
        port = tonumber(port) or 80
        nodes[#nodes + 1] = { host = host, port = port, upstream_host = host .. ":" .. port }
    end
    table.sort(nodes, function(a, b) return a.upstream_host < b.upstream_host end)
    return nodes
end

local function next_node(ctx)
    turn = turn + 1
    return ctx.upstream_nodes[turn % #ctx.upstream_nodes + 1]
end

-- True, or the status that the request ends with. A plugin may have set an upstream of its own.
function _M.pick(ctx)
    local upstream = ctx.upstream_conf or ctx.matched_upstream
    if not upstream then
        log.error("failed to set upstream: missing upstream configuration in Route or Service")
        return nil, 503
    end
    ctx.upstream_conf, ctx.upstream_nodes = upstream, nodes_of(upstream)
    if #ctx.upstream_nodes == 0 then
        log.error("failed to set upstream: no valid upstream node")
        return nil, 503
    end
    ctx.upstream_scheme = upstream.scheme or "http"
    ctx.var.upstream_scheme = ctx.upstream_scheme
    ctx.picked_server = next_node(ctx)
    ctx.balancer_ip, ctx.balancer_port = ctx.picked_server.host, ctx.picked_server.port
    if upstream.pass_host == "rewrite" then
        ctx.var.upstream_host = upstream.upstream_host
    elseif upstream.pass_host == "node" then
        ctx.var.upstream_host = ctx.picked_server.upstream_host
    end
    return true
end

local function set_limits(ctx)
    local upstream = ctx.upstream_conf
    local timeout = ctx.matched_route.value.timeout or upstream.timeout
    if timeout then
        balancer.set_timeouts(timeout.connect, timeout.send, timeout.read)
    end
    local retries = upstream.retries or #ctx.upstream_nodes - 1
    if retries > 0 then
        balancer.set_more_tries(retries)
    end
end

-- @param before_proxy runs that phase; true as its second result when a plugin ran.
function _M.balance(ctx, before_proxy)
    local node = ctx.picked_server
    if node then
        ctx.picked_server = nil
        set_limits(ctx)
    else
        node = next_node(ctx)
        local _, ran = before_proxy()
        if ran then
            balancer.recreate_request()
        end
    end
    local ok, err = balancer.set_current_peer(node.host, node.port)
    if not ok then
        log.error("failed to set server peer [", node.upstream_host, "] err: ", err)
        return response.exit(502)
    end
    ctx.proxy_passed = true
end

return _M
