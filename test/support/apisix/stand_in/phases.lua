-- What nginx's configuration calls in each phase, in the order in which APISIX does things: rewrite
-- of global rules, of the route, of its consumer; access of both; the upstream's choice,
-- before_proxy; then the filters and log, where global rules go first.
--
-- Runs in the phases that the functions are named after. ngx.ctx.api_ctx is there from access to
-- log.
local core = require "apisix.core"
local plugin = require "apisix.plugin"
local consumer = require "apisix.consumer"
local merge = require "stand_in.merge"
local apis = require "stand_in.apis"
local follow = require "stand_in.follow"
local router = require "stand_in.router"
local upstream = require "stand_in.upstream"

local _M = {}

local lists = {}

local function list(key, filter)
    lists[key] = core.config.new("/" .. key, { checker = plugin.plugin_checker, filter = filter })
end

local function set_parent(item)
    item.orig_modifiedIndex = item.modifiedIndex
    plugin.set_plugins_meta_parent(item.value.plugins, item)
end

function _M.init_worker()
    follow.start()
    plugin.init_worker()
    for _, key in ipairs { "routes", "services", "plugin_configs", "consumer_groups",
                           "global_rules" } do
        list(key, set_parent)
    end
    lists.upstreams = core.config.new("/upstreams")
    consumer.init_worker()
end

_M.exit_worker = plugin.exit_worker
_M.control = apis.control

-- Routes -----------------------------------------------------------------------------------------

local function route_rows(routes)
    local entries = {}
    for _, route in ipairs(routes.values) do
        local value = route.value
        if value.status ~= 0 then
            entries[#entries + 1] = {
                paths = value.uris or { value.uri }, methods = value.methods,
                hosts = value.hosts or value.host and { value.host }, priority = value.priority,
                value = route,
            }
        end
    end
    return router.new(entries)
end

local rows_for, rows

local function match_route(ctx)
    if rows_for ~= lists.routes.conf_version then
        rows_for, rows = lists.routes.conf_version, route_rows(lists.routes)
    end
    local var = ctx.var
    return router.match(rows, var.request_method, var.uri, var.host)
end

-- Phases -----------------------------------------------------------------------------------------

local function global_rules(ctx, phase)
    plugin.run_global_rules(ctx, lists.global_rules.values, lists.global_rules.conf_version, phase)
end

local function common_phase(phase)
    local ctx = ngx.ctx.api_ctx
    if not ctx then
        return
    end
    global_rules(ctx, phase)
    return plugin.run_plugin(phase, nil, ctx)
end

local function fetch(key, id, status)
    local item = lists[key]:get(id)
    if not item then
        core.log.error("failed to fetch ", key, " by id: ", id)
        core.response.exit(status)
    end
    return item
end

local function with_service(ctx, route)
    local service = fetch("services", route.value.service_id, 404)
    route = plugin.merge_service_route(service, route)
    ctx.matched_route = route
    ctx.conf_type = "route&service"
    ctx.conf_version = route.modifiedIndex .. "&" .. service.modifiedIndex
    ctx.conf_id = route.value.id .. "&" .. service.value.id
    ctx.service_id, ctx.service_name = service.value.id, service.value.name
    return route
end

local function with_consumer(ctx, route)
    local group = ctx.consumer.group_id and fetch("consumer_groups", ctx.consumer.group_id, 503)
    local merged, changed = plugin.merge_consumer_route(route, ctx.consumer, group, ctx)
    if changed then
        ctx.matched_route = merged
        core.table.clear(ctx.plugins)
        plugin.filter(ctx, merged, ctx.plugins, nil, "rewrite_in_consumer")
        plugin.run_plugin("rewrite_in_consumer", ctx.plugins, ctx)
    end
    return merged
end

-- As APISIX's nginx configuration sets them, whatever the client has sent.
local function set_forwarded(var)
    ngx.req.set_header("X-Forwarded-Proto", var.scheme)
    ngx.req.set_header("X-Forwarded-Host", var.http_host or var.host)
    ngx.req.set_header("X-Forwarded-Port", var.server_port)
    ngx.req.clear_header("Forwarded")
end

local function find_route(ctx)
    local route = match_route(ctx)
    ctx.matched_route = route
    if not route then
        global_rules(ctx, "rewrite")
        global_rules(ctx, "access")
        return core.response.exit(404, { error_msg = "404 Route Not Found" })
    end
    if route.value.plugin_config_id then
        route = merge.plugin_config(route, fetch("plugin_configs", route.value.plugin_config_id,
                                                 503))
    end
    ctx.conf_type, ctx.conf_version, ctx.conf_id = "route", route.modifiedIndex, route.value.id
    if route.value.service_id then
        route = with_service(ctx, route)
    end
    ctx.route_id, ctx.route_name = route.value.id, route.value.name
    return route
end

local function proxy(ctx, route)
    local id = ctx.upstream_id or route.value.upstream_id
    ctx.matched_upstream = id and fetch("upstreams", id, 502).value or route.value.upstream
    local ok, status = upstream.pick(ctx)
    if not ok then
        return core.response.exit(status)
    end
    common_phase("before_proxy")
    ctx._apisix_proxied = not ctx._resp_source
    if ngx.ctx.disable_proxy_buffering then
        -- A redirect inside nginx has an ngx.ctx of its own, which is made the one of before.
        _M.stashed = ngx.ctx
        return ngx.exec("@disable_proxy_buffering")
    end
end

function _M.access()
    local ctx = core.tablepool.fetch("api_ctx")
    ngx.ctx.api_ctx = ctx
    ctx.ngx_ctx = ngx.ctx
    core.ctx.set_vars_meta(ctx)
    set_forwarded(ngx.var)
    local var = ctx.var
    var.real_request_uri = var.request_uri
    var.request_uri = var.uri .. var.is_args .. (var.args or "")

    local route = find_route(ctx)
    global_rules(ctx, "rewrite")
    ctx.plugins = plugin.filter(ctx, route)
    plugin.run_plugin("rewrite", ctx.plugins, ctx)
    if ctx.consumer then
        route = with_consumer(ctx, route)
    end
    global_rules(ctx, "access")
    plugin.run_plugin("access", ctx.plugins, ctx)
    proxy(ctx, route)
end

-- The access phase of a location that ngx.exec led to, in the same turn of nginx's loop.
function _M.redirected()
    ngx.ctx = _M.stashed
    _M.stashed = nil
end

function _M.balancer()
    upstream.balance(ngx.ctx.api_ctx, function() return common_phase("before_proxy") end)
end

function _M.header_filter()
    core.response.set_header("Server", "APISIX/" .. core.version.VERSION)
    local status = ngx.var.upstream_status
    if status and (tonumber(status:sub(-3)) or 0) >= 500 then
        core.response.set_header("X-APISIX-Upstream-Status", status)
    end
    common_phase("header_filter")
end

function _M.body_filter()
    common_phase("body_filter")
    common_phase("delayed_body_filter")
end

function _M.log()
    local ctx = common_phase("log")
    if not ctx then
        return
    end
    core.ctx.release_vars(ctx)
    for _, name in ipairs { "plugins", "global_plugins" } do
        if ctx[name] then
            core.tablepool.release(name, ctx[name])
        end
    end
    core.tablepool.release("api_ctx", ctx)
end

return _M
