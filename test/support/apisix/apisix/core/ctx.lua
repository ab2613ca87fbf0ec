-- core.ctx: ctx.var, a request's variables. What was read once is kept, so a later change by nginx
-- is not seen; what is written reaches nginx only for the variables that its configuration
-- declares. Runs in the phases of a request; the tables are used again for later ones
-- (release_vars).
local request = require "apisix.core.request"
local tablepool = require "stand_in.tablepool"

local _M = { version = 0.2 }

-- What APISIX has `set` in its nginx configuration, of that what is in the stand-in's.
local IN_NGINX = {
    upstream_scheme = true, upstream_host = true, upstream_uri = true, upstream_upgrade = true,
    upstream_connection = true, upstream_mirror_host = true, upstream_mirror_uri = true,
    upstream_cache_zone = true, upstream_no_cache = true, upstream_cache_key = true,
    upstream_cache_bypass = true,
}

-- Read again each time, as set_uri_args changes them.
local never_kept = { args = true, is_args = true }

local OF_CTX = {
    balancer_ip = true, balancer_port = true, consumer_group_id = true, consumer_name = true,
    route_id = true, route_name = true, service_id = true, service_name = true,
}

local registered = {}

local function starts_with(name, prefix)
    return name:sub(1, #prefix) == prefix
end

-- No loop over the prefixes: LuaJIT would not compile what leads up to it, and APISIX has none.
local function fetch(var, name)
    if name == "method" then
        return ngx.req.get_method()
    elseif starts_with(name, "cookie_") then
        return ngx.var[name]
    elseif starts_with(name, "arg_") then
        local value = request.get_uri_args()[name:sub(5)]
        return type(value) == "table" and value[1] or value
    elseif starts_with(name, "http_") then
        return ngx.var["http_" .. name:sub(6):lower():gsub("-", "_")]
    end
    local ctx = rawget(var, "_ctx")
    if registered[name] then
        return registered[name](ctx)
    end
    if OF_CTX[name] then
        return ctx[name]
    end
    return ngx.var[name]
end

local VARS = {
    __index = function(var, name)
        local kept = rawget(var, "_cache")[name]
        if kept ~= nil then
            return kept
        end
        if type(name) ~= "string" then
            error("invalid argument, expect string value", 2)
        end
        local value = fetch(var, name)
        if value ~= nil and not never_kept[name] then
            rawget(var, "_cache")[name] = value
        end
        return value
    end,
    __newindex = function(var, name, value)
        if IN_NGINX[name] then
            ngx.var[name] = value
        end
        rawget(var, "_cache")[name] = value
    end,
}

function _M.register_var(name, getter, opts)
    if type(getter) ~= "function" then
        error("the getter of registered var should be a function")
    end
    registered[name] = getter
    if opts and opts.no_cacheable then
        never_kept[name] = true
    end
end

function _M.set_vars_meta(ctx)
    local var = tablepool.fetch("ctx_var")
    rawset(var, "_cache", {})
    rawset(var, "_ctx", ctx)
    ctx.var = setmetatable(var, VARS)
end

function _M.release_vars(ctx)
    local var = ctx.var
    ctx.var = nil
    if var then
        tablepool.release("ctx_var", var)
    end
end

return _M
