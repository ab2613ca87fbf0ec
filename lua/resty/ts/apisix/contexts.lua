-- The contexts of TypeScript plugins: one for each place that a configuration stands in (a route, a
-- service, a consumer, a plugin config, a global rule) and each version of it. Each is a chain.
--
-- Runs on the Lua side, in workers; `sweep` in a timer. Invariants: a configuration's table has one
-- context for as long as it is there; a version whose configuration is as before keeps the context,
-- and what the plugin has in it; what was replaced, deleted or disabled, or has no table any more
-- while its place has others in use, is retired, so its plugin's teardown runs once the requests
-- under way have ended.

local chains = require "resty.ts.http.chain"
local core = require "apisix.core"
local values = require "resty.ts.values"

local ngx = ngx
local getmetatable = getmetatable
local pairs = pairs
local type = type
local next = next
local rawget = rawget
local setmetatable = setmetatable
local tonumber = tonumber
local tostring = tostring
local match, format = string.match, string.format
local concat, sort = table.concat, table.sort

local SWEEP_SECONDS = 10
-- Of what no resource is known of that says when it is gone.
local IDLE_SECONDS = 3600
local json_array_mt = core.json.array_mt
local null = values.null

-- What APISIX keeps in a configuration for itself.
local APISIX_OWN = { _meta = true, _from_consumer = true, _skip_rewrite_in_consumer = true,
                     _version = true }

local _M = {}

-- By plugin and place -> { plugin, resource, version, contexts, used_at, used_in }.
-- contexts: by the configuration as text -> { chain, metadata, replaced, used, used_in, dropped }.
-- used_at: when a sweep has seen that it was used; used_in: which sweep that was.
local places = {}
local indexes = setmetatable({}, { __mode = "k" }) -- as a set
local sweeping = false
local sweeps = 0


-- A value as it is sent: a copy, as APISIX may write into its own.
local function copied(v)
    if type(v) ~= "table" then
        return v
    end
    local copy = {}
    for key, value in next, v do
        copy[key] = copied(value)
    end
    if getmetatable(v) == json_array_mt then
        return values.array(copy)
    end
    return copy
end


-- A configuration without what is APISIX's.
function _M.own(conf)
    local own = {}
    for key, value in next, conf do
        if not APISIX_OWN[key] then
            own[key] = copied(value)
        end
    end
    return own
end


local function append_text(parts, v)
    if type(v) ~= "table" then
        parts[#parts + 1] = type(v) == "string" and format("%q", v) or tostring(v)
        return
    end
    local keys = {}
    for key in next, v do
        keys[#keys + 1] = key
    end
    sort(keys, function(a, b)
        if type(a) == type(b) then
            return a < b
        end
        return type(a) == "number"
    end)
    parts[#parts + 1] = getmetatable(v) == values.array_mt and "[" or "{"
    for i = 1, #keys do
        append_text(parts, keys[i])
        append_text(parts, v[keys[i]])
    end
    parts[#parts + 1] = "}"
end


-- The same text for the same value, in whatever order its tables are walked.
local function text_of(v)
    local parts = {}
    append_text(parts, v)
    return concat(parts, " ")
end


-- Where the configuration stands, and in what version.
local function place_of(conf, api_ctx)
    local meta = conf._meta
    local parent = type(meta) == "table" and meta.parent
    if parent then
        return parent.resource_key, parent.resource_version
    end
    return nil, tostring(api_ctx.conf_version), api_ctx.conf_type .. "#" .. api_ctx.conf_id
end


-- Whether the version is one that was there before the other.
local function is_older(version, other)
    version, other = tonumber(version), tonumber(other)
    return version and other and version < other
end


-- One that is being configured stays for the next sweep.
local function retire(place, text, context)
    context.replaced = true
    if context.chain:retire() then
        context.dropped = true
        place.contexts[text] = nil
    end
end


local function retire_others(place, kept)
    for text, context in pairs(place.contexts) do
        if text ~= kept then
            retire(place, text, context)
        end
    end
end


-- The plugin's context for a table that was not seen before. plugin: plugin.lua's or hook.lua's.
local function find(plugin, conf, api_ctx, metadata)
    local resource, version, other = place_of(conf, api_ctx)
    local key = plugin.name .. "\0" .. (resource or other)
    local place = places[key]
    if not place then
        place = { plugin = plugin.name, resource = resource, version = version, contexts = {},
                  used_at = 0, used_in = 0 }
        places[key] = place
    end
    local own = _M.own(conf)
    local text = text_of({ own, metadata or false })
    local context = place.contexts[text]
    local stale = is_older(version, place.version)
    if not stale and version ~= place.version then
        place.version = version
        retire_others(place, text)
    end
    if not context then
        local chain = chains.of(plugin.members(own, metadata or null), plugin.title(own),
                                plugin.policies(own))
        chain.strict = plugin.strict
        context = { chain = chain, metadata = metadata, replaced = stale, used = true,
                    used_in = sweeps, dropped = false }
        place.contexts[text] = context
    end
    -- Another table of the same value, perhaps.
    context.metadata = metadata
    return context
end


-- Of each plugin a table that goes with the configurations: conf -> context.
function _M.new_index()
    local index = setmetatable({}, { __mode = "k" })
    indexes[index] = true
    return index
end


-- The chain for this configuration. plugin: { name, index, members(own, metadata), title(own),
-- policies(own), strict }. metadata: the value of APISIX's plugin metadata, or nil.
function _M.chain(plugin, conf, api_ctx, metadata)
    local context = plugin.index[conf]
    if not context or context.dropped or context.metadata ~= metadata then
        context = find(plugin, conf, api_ctx, metadata)
        plugin.index[conf] = context
        _M.sweep_from_now_on()
    end
    context.used = true
    return context.chain
end


-- Ends all contexts of a plugin that APISIX no longer has.
function _M.forget(name)
    for key, place in pairs(places) do
        if place.plugin == name then
            retire_others(place)
            if next(place.contexts) == nil then
                places[key] = nil
            end
        end
    end
end


-- Whether the resource still has this plugin; true when nobody can say.
local function still_has(resource, plugin)
    local kind, id = match(resource, "([^/]+)/([^/]+)$")
    local config = kind and core.config.fetch_created_obj("/" .. kind)
    if not config then
        return true
    end
    local item = config:get(id)
    local value = item and item.value
    local plugins = type(value) == "table" and value.plugins
    local conf = plugins and plugins[plugin]
    if not conf then
        return false
    end
    local meta = rawget(conf, "_meta")
    return not (meta and meta.disable)
end


-- Notes which contexts were used since the last sweep.
local function note_uses(place)
    for _, context in pairs(place.contexts) do
        if context.used then
            context.used, context.used_in = false, sweeps
            place.used_in, place.used_at = sweeps, ngx.time()
        end
    end
end


-- Whether there is nothing any more that the place is for.
local function is_gone(place)
    if place.resource then
        return not still_has(place.resource, place.plugin)
    end
    return ngx.time() - place.used_at > IDLE_SECONDS
end


-- The contexts that tables are there for, as a set.
local function contexts_with_tables()
    local found = {}
    for index in pairs(indexes) do
        for _, context in pairs(index) do
            found[context] = true
        end
    end
    return found
end


-- Whether it was another configuration of the same version: where a value was a reference to a
-- secret, say, APISIX has let go of the table, and others have been used since. One that APISIX
-- still has, of several in one place, stays, however seldom it is used.
local function is_outdated(place, context, with_tables)
    return context.used_in < place.used_in and not with_tables[context]
end


-- Retires what is gone or outdated, and what was replaced and then used once more by a request
-- under way.
function _M.sweep()
    sweeps = sweeps + 1
    local with_tables
    for key, place in pairs(places) do
        note_uses(place)
        local gone = is_gone(place)
        for text, context in pairs(place.contexts) do
            if context.used_in < place.used_in then
                with_tables = with_tables or contexts_with_tables()
            end
            if gone or context.replaced or is_outdated(place, context, with_tables) then
                retire(place, text, context)
            end
        end
        if next(place.contexts) == nil then
            places[key] = nil
        end
    end
end


-- Every SWEEP_SECONDS, for as long as there are contexts.
function _M.sweep_from_now_on()
    if sweeping then
        return
    end
    sweeping = ngx.timer.at(SWEEP_SECONDS, function(premature)
        sweeping = false
        if premature then
            return
        end
        _M.sweep()
        if next(places) then
            _M.sweep_from_now_on()
        end
    end) and true or false
end


-- For the control API: { plugin, resource or place, version, contexts = count }.
function _M.list()
    local list = {}
    for key, place in pairs(places) do
        local count = 0
        for _ in pairs(place.contexts) do
            count = count + 1
        end
        list[#list + 1] = { plugin = place.plugin, resource = match(key, "%z(.*)$"),
                            version = place.version, contexts = count }
    end
    return list
end


return _M
