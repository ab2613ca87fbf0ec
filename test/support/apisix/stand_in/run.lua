-- Which plugins run for a request, in which order, and running them.
--
-- What must stay true, as in APISIX: priorities sort, and with one `_meta.priority` among them each
-- configuration gets one; handlers of rewrite, access and before_proxy may yield and answer, those
-- of the later phases are called by nginx's filters and may do neither. An error in a handler is
-- nginx's.
local lrucache = require "apisix.core.lrucache"
local response = require "apisix.core.response"
local log = require "apisix.core.log"
local tab = require "apisix.core.table"
local tablepool = require "stand_in.tablepool"
local expression = require "stand_in.expression"
local merge = require "stand_in.merge"

local _M = {}

local conditions = lrucache.new { ttl = 300, count = 512 }
local functions = lrucache.new { ttl = 300, count = 512 }

local LATE = { header_filter = true, body_filter = true, delayed_body_filter = true, log = true }

function _M.is_disabled(conf)
    return type(conf) == "table" and type(conf._meta) == "table" and conf._meta.disable or nil
end

local function sort_by_meta(plugins)
    local pairs_of = {}
    for i = 1, #plugins, 2 do
        local plugin, conf = plugins[i], plugins[i + 1]
        conf._meta = conf._meta or {}
        conf._meta.priority = conf._meta.priority or plugin.priority
        pairs_of[#pairs_of + 1] = { plugin, conf }
    end
    table.sort(pairs_of, function(a, b) return a[2]._meta.priority > b[2]._meta.priority end)
    for i, pair in ipairs(pairs_of) do
        plugins[2 * i - 1], plugins[2 * i] = pair[1], pair[2]
    end
end

-- { plugin, conf, plugin, conf, … } of what `conf` configures, in their order.
-- @param loaded all plugins, by priority. @param route what a global rule's plugin may give way to.
function _M.filter(loaded, conf, plugins, route, phase)
    plugins = plugins or tablepool.fetch("plugins")
    local wanted, in_route = conf.value.plugins or {}, route and route.value.plugins or {}
    local custom = false
    for _, plugin in ipairs(loaded) do
        local plugin_conf, routes = wanted[plugin.name], in_route[plugin.name]
        local gives_way = plugin.run_policy == "prefer_route" and routes
            and not _M.is_disabled(routes)
        if type(plugin_conf) == "table" and not _M.is_disabled(plugin_conf) and not gives_way then
            if phase == "rewrite_in_consumer"
                and (not plugin_conf._from_consumer or plugin.type == "auth") then
                plugin_conf._skip_rewrite_in_consumer = true
            end
            custom = custom or plugin_conf._meta and plugin_conf._meta.priority
            tab.insert_tail(plugins, plugin, plugin_conf)
        end
    end
    if custom then
        sort_by_meta(plugins)
    end
    return plugins
end

local function condition_holds(ctx, plugin, conf)
    local filter = conf._meta and conf._meta.filter
    if not filter then
        return true
    end
    local key = table.concat({ ctx.conf_type, ctx.conf_id, ctx.conf_version, plugin.name }, "#")
    if ctx[key] == nil then
        local test, err = conditions(plugin.name .. ctx.conf_type .. ctx.conf_id, ctx.conf_version,
                                     expression.new, filter)
        if not test then
            log.warn("failed to get the 'vars' expression: ", err, " plugin_name: ", plugin.name)
            return true
        end
        ctx[key] = test(ctx.var)
    end
    return ctx[key]
end

local function before_each(ctx, plugin, conf)
    local text = conf._meta and conf._meta.pre_function
    if text then
        local ok, err = pcall(functions(text, "", load, text, "meta pre_function"), conf, ctx)
        if not ok then
            log.error("pre_function execution for plugin ", plugin.name, " failed: ", err)
        end
    end
end

local function answer(plugin, conf, code, body)
    if code >= 400 then
        log.warn(plugin.name, " exits with http status code ", code)
        body = conf._meta and conf._meta.error_response or body
    end
    response.exit(code, body)
end

-- Runs one phase of the plugins, or of ctx.plugins. True as the second result when any ran.
function _M.run_plugin(phase, plugins, ctx)
    ctx = ctx or ngx.ctx.api_ctx
    if not ctx then
        return
    end
    plugins = plugins or ctx.plugins or {}
    local handler_name = phase == "rewrite_in_consumer" and "rewrite" or phase
    local ran = false
    for i = 1, #plugins, 2 do
        local plugin, conf = plugins[i], plugins[i + 1]
        local handler = plugin[handler_name]
        local passed = phase == "rewrite_in_consumer" and conf._skip_rewrite_in_consumer
        if handler and not passed and condition_holds(ctx, plugin, conf) then
            before_each(ctx, plugin, conf)
            ran = true
            ctx._plugin_name = plugin.name
            local code, body = handler(conf, ctx)
            ctx._plugin_name = nil
            if (code or body) and not LATE[phase] then
                answer(plugin, conf, code, body)
            end
        end
    end
    return ctx, ran
end

-- The same for all global rules, which see a conf_type, conf_id and conf_version of their own.
function _M.run_global_rules(loaded, ctx, rules, version, phase)
    if not rules or #rules == 0 then
        return
    end
    local conf_type, conf_version, conf_id = ctx.conf_type, ctx.conf_version, ctx.conf_id
    local rule = merge.global_rules(rules, version)
    ctx.conf_type, ctx.conf_version, ctx.conf_id = "global_rule", rule.modifiedIndex, rule.value.id
    local route = ctx.matched_route
    if not ctx.global_plugins or ctx.global_plugins_route ~= route
        or ctx.global_plugins_version ~= rule.modifiedIndex then
        local plugins = ctx.global_plugins or tablepool.fetch("global_plugins")
        tab.clear(plugins)
        ctx.global_plugins = _M.filter(loaded, rule, plugins, route)
        ctx.global_plugins_route, ctx.global_plugins_version = route, rule.modifiedIndex
    end
    _M.run_plugin(phase, ctx.global_plugins, ctx)
    ctx.conf_type, ctx.conf_version, ctx.conf_id = conf_type, conf_version, conf_id
end

return _M
