-- core.lrucache: what a function makes for a key, until the key's version changes or its time is
-- up.
--
-- `stand_in_forget` makes all caches forget, as their times to live do in APISIX after minutes:
-- merged routes and what plugins keep are then made again, with nothing changed.
local lrucache = require "resty.lrucache"

local GLOBAL, PLUGIN = { count = 1024, ttl = 3600 }, { count = 8, ttl = 300 }

local caches = {}

local function new(opts)
    opts = opts or {}
    local defaults = opts.type == "plugin" and PLUGIN or GLOBAL
    local count, ttl = opts.count or defaults.count, opts.ttl or defaults.ttl
    local cache = lrucache.new(count)
    caches[#caches + 1] = cache
    return function(key, version, create, ...)
        local kept, stale = cache:get(key)
        if not kept and stale and stale.version == version and not opts.invalid_stale then
            kept = stale
            cache:set(key, kept, ttl)
        end
        if kept and kept.version == version then
            return kept.value
        end
        local value, err = create(...)
        if value ~= nil then
            cache:set(key, { value = value, version = version }, ttl)
        end
        return value, err
    end
end

local function key_of(api_ctx, extra_key)
    local key = api_ctx.conf_type .. "#" .. api_ctx.conf_id
    return extra_key and key .. "#" .. extra_key or key
end

local _M = { version = 0.1, new = new, global = new() }

function _M.plugin_ctx(cache, api_ctx, extra_key, create, ...)
    return cache(key_of(api_ctx, extra_key), api_ctx.conf_version, create, ...)
end

function _M.plugin_ctx_id(api_ctx, extra_key)
    return key_of(api_ctx, extra_key) .. "#" .. api_ctx.conf_version
end

function _M.stand_in_forget()
    for _, cache in ipairs(caches) do
        cache:flush_all()
    end
end

return _M
