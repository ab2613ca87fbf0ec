-- What a request's plugins are configured with when the route is not alone: a service's, a plugin
-- config's, a consumer's, all global rules'.
--
-- What must stay true, as in APISIX: a service's configurations are copied (other tables, equal
-- content) whenever the route's or the service's version changes or the cache forgets, those of a
-- route and of a consumer are shared; `_meta.parent` names the resource that they came from.
local lrucache = require "apisix.core.lrucache"
local tab = require "apisix.core.table"
local log = require "apisix.core.log"

local _M = {}

local merged_routes = lrucache.new { ttl = 300, count = 512 }
local merged_rules = lrucache.new { ttl = 300, count = 512 }

-- Where each configuration came from, in the metatable of its _meta: pairs() does not show it.
function _M.set_plugins_meta_parent(plugins, parent)
    for _, conf in pairs(plugins or {}) do
        conf._meta = conf._meta or {}
        if not conf._meta.parent then
            local from = {
                resource_key = parent.key,
                resource_version = tostring(parent.modifiedIndex),
            }
            local mt = getmetatable(conf._meta)
            if mt then
                mt.parent = from
            else
                setmetatable(conf._meta, { __index = { parent = from } })
            end
        end
    end
end

function _M.plugin_config(route, plugin_config)
    if route.prev_plugin_config_ver == plugin_config.modifiedIndex then
        return route
    end
    route.orig_plugins = route.orig_plugins or route.value.plugins or {}
    local plugins = tab.clone(plugin_config.value.plugins)
    for name, conf in pairs(route.orig_plugins) do
        plugins[name] = conf
    end
    route.value.plugins = plugins
    route.modifiedIndex = route.orig_modifiedIndex .. "#" .. plugin_config.modifiedIndex
    route.prev_plugin_config_ver = plugin_config.modifiedIndex
    return route
end

local FROM_ROUTE = { "script", "timeout", "hosts", "labels" }

local function service_and_route(service, route)
    local merged = tab.deepcopy(service)
    local value = merged.value
    value.service_id, value.id, value.name = value.id, route.value.id, route.value.name
    merged.modifiedIndex = route.modifiedIndex
    for name, conf in pairs(route.value.plugins or {}) do
        value.plugins = value.plugins or {}
        value.plugins[name] = conf
    end
    if route.value.upstream then
        value.upstream, value.upstream_id = route.value.upstream, nil
    end
    value.upstream_id = route.value.upstream_id or value.upstream_id
    for _, name in ipairs(FROM_ROUTE) do
        value[name] = route.value[name] or value[name]
    end
    return merged
end

function _M.service(service, route)
    local key = route.value.id .. "#" .. route.modifiedIndex .. "#" .. service.modifiedIndex
    return merged_routes(key, service, service_and_route, service, route)
end

local function add_of_consumer(route, plugins)
    for name, conf in pairs(plugins) do
        route.value.plugins = route.value.plugins or {}
        if route.value.plugins[name] == nil then
            conf._from_consumer = true
        end
        route.value.plugins[name] = conf
    end
end

local function route_and_consumer(route, of_consumer, of_group)
    if tab.isempty(of_consumer) and tab.isempty(of_group) then
        return route
    end
    local merged = tab.deepcopy(route, { shallow_prefix = "self.value.plugins" })
    add_of_consumer(merged, of_group)
    add_of_consumer(merged, of_consumer)
    return merged
end

-- The route with the plugins of ctx.consumer and its group, and whether there were any.
function _M.consumer(route, group, ctx)
    local consumer = ctx.consumer
    local key = table.concat({
        route.value.id, route.modifiedIndex, consumer.id, consumer.modifiedIndex,
        group and group.value.id, group and group.modifiedIndex,
    }, "#")
    local merged = merged_routes(key, ctx.conf_version, route_and_consumer, route,
                                 consumer.plugins or {}, group and group.value.plugins or {})
    ctx.conf_type = ctx.conf_type .. "&consumer"
    ctx.conf_version = ctx.conf_version .. "&" .. ctx.consumer_ver
    ctx.conf_id = ctx.conf_id .. "&" .. ctx.consumer_name
    if group then
        ctx.conf_type = ctx.conf_type .. "&consumer_group"
        ctx.conf_version = ctx.conf_version .. "&" .. group.modifiedIndex
        ctx.conf_id = ctx.conf_id .. "&" .. group.value.id
    end
    return merged, merged ~= route
end

local function all_rules(rules, version)
    local plugins, seen = {}, {}
    for _, rule in ipairs(rules) do
        for name, conf in pairs(rule.value.plugins or {}) do
            if seen[name] then
                log.error("Found ", name, " configured across different global rules.",
                          " Removing it from execution list")
            end
            plugins[name] = not seen[name] and conf or nil
            seen[name] = true
        end
    end
    return {
        key = "/apisix/global_rules/dummy",
        value = { id = 1, plugins = plugins },
        modifiedIndex = version,
    }
end

-- All global rules as one; a plugin that is in two of them runs in neither.
function _M.global_rules(rules, version)
    return merged_rules(version, rules, all_rules, rules, version)
end

return _M
