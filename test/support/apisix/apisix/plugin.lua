-- A stand-in for apisix.plugin: loads what config.yaml lists, checks configurations, runs phases.
--
-- What must stay true, as in APISIX: loading again calls destroy() of what is loaded, forgets its
-- modules and requires them anew, in the same Lua state; init() runs in every worker, before there
-- is any resource or metadata. Runs in init_worker, in timers (loading, checks), in requests
-- (running) and on a worker's exit.
local core = require "apisix.core"
local expression = require "stand_in.expression"
local merge = require "stand_in.merge"
local run = require "stand_in.run"

local _M = {
    version = 0.3,
    load_times = 0,
    plugins = {},
    plugins_hash = {},
    run_plugin = run.run_plugin,
    set_plugins_meta_parent = merge.set_plugins_meta_parent,
}

function _M.plugin_attr(name)
    return core.table.try_read_attr(core.config.local_conf(), "plugin_attr", name)
end

local function unload(name)
    local module = "apisix.plugins." .. name
    local plugin = package.loaded[module]
    if type(plugin) == "table" and type(plugin.destroy) == "function" then
        plugin.destroy()
    end
    package.loaded[module] = nil
end

local function problem_of(plugin)
    if not plugin.priority then
        return "], missing field: priority"
    elseif not plugin.version then
        return "] missing field: version"
    elseif type(plugin.schema) ~= "table" then
        return "] schema field"
    end
end

local function load_plugin(name)
    local ok, plugin = pcall(require, "apisix.plugins." .. name)
    if not ok then
        core.log.error("failed to load plugin [", name, "] err: ", plugin)
        return
    end
    local problem = problem_of(plugin)
    if problem then
        core.log.error("invalid plugin [", name, problem)
        return
    end
    local schema, injected = plugin.schema, core.schema.plugin_injected_schema
    schema.properties = schema.properties or {}
    if schema["$comment"] ~= injected["$comment"] then
        if schema.properties._meta then
            core.log.error("invalid plugin [", name,
                           "]: found forbidden '_meta' field in the schema")
            return
        end
        schema.properties._meta = injected._meta
        schema["$comment"] = injected["$comment"]
    end
    plugin.name = name
    plugin.attr = _M.plugin_attr(name)
    table.insert(_M.plugins, plugin)
    if plugin.init then
        plugin.init()
    end
end

function _M.load()
    local config, err = core.config.local_conf(true)
    if not config then
        error("failed to load the configuration file: " .. err)
    end
    for name in pairs(_M.plugins_hash) do
        unload(name)
    end
    core.table.clear(_M.plugins)
    core.table.clear(_M.plugins_hash)
    for _, name in ipairs(config.plugins) do
        load_plugin(name)
    end
    table.sort(_M.plugins, function(a, b) return a.priority > b.priority end)
    for _, plugin in ipairs(_M.plugins) do
        _M.plugins_hash[plugin.name] = plugin
    end
    _M.load_times = _M.load_times + 1
    return _M.plugins
end

function _M.exit_worker()
    for name in pairs(_M.plugins_hash) do
        unload(name)
    end
end

function _M.get(name)
    return _M.plugins_hash[name]
end

function _M.get_all(attrs)
    local all = {}
    for name, plugin in pairs(_M.plugins_hash) do
        all[name] = core.table.pick(plugin, attrs)
    end
    return all, {}
end

-- A version that depends on the configuration's content alone.
function _M.conf_version(conf)
    if not conf._version then
        conf._version = tostring(ngx.crc32_short(core.json.stably_encode(conf)))
    end
    return conf._version
end

-- Configurations ---------------------------------------------------------------------------------

local function check_meta(meta)
    if meta.filter then
        local test, err = expression.new(meta.filter)
        if not test then
            return nil, "failed to validate the 'vars' expression: " .. err
        end
    end
    return true
end

local function check_one(name, conf, schema_type, opts)
    if type(conf) ~= "table" then
        return false, "invalid plugin conf " .. core.json.encode(conf, true) .. " for plugin ["
            .. tostring(name) .. "]"
    end
    local plugin = _M.plugins_hash[name]
    if not plugin then
        if opts.ignore_unknown then
            return true
        end
        if opts.skip_unknown then
            core.log.warn("skipping check schema for disabled or unknown plugin [", name,
                          "]. Enable the plugin or modify configuration")
            return true
        end
        return false, "unknown plugin [" .. name .. "]"
    end
    if not plugin.check_schema then
        return true
    end
    local ok, err = plugin.check_schema(conf, schema_type)
    if not ok and not run.is_disabled(conf) then
        return false, "failed to check the configuration of plugin " .. name .. " err: " .. err
    elseif not ok then
        core.log.warn("failed to check the configuration of disabled plugin ", name,
                      ", accepting it anyway")
    end
    return check_meta(conf._meta or {})
end

function _M.check_schema(plugins, schema_type, skip_unknown)
    for name, conf in pairs(plugins) do
        local ok, err = check_one(name, conf, schema_type, { skip_unknown = skip_unknown })
        if not ok then
            return false, err
        end
    end
    return true
end

-- The check of a resource that may have plugins.
function _M.plugin_checker(item, schema_type)
    if not item.plugins then
        return true
    end
    return _M.check_schema(item.plugins, schema_type, core.config.type ~= "yaml")
end

function _M.init_worker()
    _M.load()
    _M.plugin_metadatas = core.config.new("/plugin_metadata", {
        checker = function(item)
            return check_one(item.id, item, core.schema.TYPE_METADATA, { ignore_unknown = true })
        end,
    })
end

function _M.plugin_metadata(name)
    return _M.plugin_metadatas:get(name)
end

-- Requests ---------------------------------------------------------------------------------------

function _M.filter(_ctx, conf, plugins, route, phase)
    return run.filter(_M.plugins, conf, plugins, route, phase)
end

function _M.run_global_rules(ctx, rules, version, phase)
    return run.run_global_rules(_M.plugins, ctx, rules, version, phase)
end

_M.merge_service_route = merge.service

function _M.merge_consumer_route(route, _consumer, group, ctx)
    return merge.consumer(route, group, ctx)
end

return _M
