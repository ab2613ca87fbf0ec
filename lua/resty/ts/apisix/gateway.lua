-- How plugins reach Apache APISIX's request: as resty.ts.http.gateway, for a request that has an
-- api_ctx.
--
-- Runs on the Lua side. Invariants: what APISIX has read and keeps (api_ctx.var, the arguments) is
-- renewed when a plugin changes it; an answer is left in the state for the phase's function to
-- return, so that APISIX sends it, with its _meta.error_response and its callbacks.

local contexts = require "resty.ts.apisix.contexts"
local core = require "apisix.core"
local nginx = require "resty.ts.http.gateway"
local remove_response = require("resty.ts.http.fields").remove_response
local values = require "resty.ts.values"

local has_body = nginx.has_body
local null = values.null
local ngx = ngx
local error = error
local type = type
local ipairs = ipairs
local tonumber = tonumber
local tostring = tostring
local pairs = pairs
local find, gsub = string.find, string.gsub
local lower = string.lower

-- What an answer of the plugin's own takes from the response it comes in place of, beside all that
-- the upstream has sent: nginx may have these of its own.
local OF_THE_RESPONSE = { "Content-Encoding", "ETag", "Last-Modified", "Cache-Control", "Expires",
                          "Accept-Ranges", "Location" }
-- Fields of the upstream's that are nginx's, or the answer's own by now.
local KEPT = { date = true, server = true, connection = true, ["keep-alive"] = true,
               ["transfer-encoding"] = true, ["content-type"] = true, ["content-length"] = true }
local OF_THE_URI = { "uri", "query_string", "request_uri_args" }

local _M = {
    flags = 32,
}


-- A phase begins. state: the request's; plugin: the name that APISIX has for it; conf: the table of
-- its configuration.
function _M.begin(state, api_ctx, plugin, conf)
    state.gateway = _M
    state.api_ctx, state.plugin, state.conf = api_ctx, plugin, conf
    state.status, state.body = nil, nil
end


function _M.answer(state, status, body)
    state.overrides = nil -- there is no other response
    state.status = status
    if has_body(status) then
        state.body = body or ""
    end
end


function _M.answering(state)
    state.overrides = nil
    core.response.set_response_source(state.api_ctx, "apisix")
end


-- Whatever else is in the response is the gateway's: APISIX's plugins have set it.
local function clear_upstream_fields()
    local var = ngx.var
    for name in pairs(ngx.resp.get_headers(0, true)) do
        name = lower(name)
        if not KEPT[name] and var["upstream_http_" .. gsub(name, "-", "_")] then
            remove_response(name)
        end
    end
end


-- In header_filter. The body filter of the same configuration sends the body: see replaced.
function _M.replace(state, status, body)
    clear_upstream_fields()
    local header = ngx.header
    for _, name in ipairs(OF_THE_RESPONSE) do
        header[name] = nil
    end
    ngx.status = status
    header["Content-Length"] = #body
    state.replacement, state.replacing = body, state.conf
end


-- In body_filter. Whether header_filter has put an answer in the response's place: then it is sent,
-- and nothing of the response.
function _M.replaced(state, conf)
    if not state or state.replacing ~= conf then
        return false
    end
    ngx.arg[1] = state.replacement
    state.replacement = nil
    return true
end


function _M.ctx(state)
    return state.api_ctx
end


-- The upstream is asked for $upstream_uri, when a plugin has set it, TypeScript or not.
function _M.uri(state)
    local uri = state.api_ctx.var.upstream_uri
    if uri and uri ~= "" then
        return uri
    end
    return nil
end


-- A variable of nginx's or APISIX's, as text.
function _M.var(state, name)
    local value = state.api_ctx.var[name]
    if type(value) == "table" then
        return core.json.encode(value)
    end
    return value ~= nil and tostring(value) or nil
end


function _M.set_var(state, name, value)
    state.api_ctx.var[name] = value
end


function _M.set_request_header(state, name, value)
    local api_ctx = state.api_ctx
    core.request.set_header(api_ctx, name, value)
    if value and lower(name) == "host" then
        api_ctx.var.upstream_host = type(value) == "table" and value[1] or value
    end
end


function _M.add_request_header(state, name, value)
    core.request.add_header(state.api_ctx, name, value)
end


local function forget_uri(api_ctx)
    api_ctx.req_uri_args = nil
    local cache = api_ctx.var._cache
    if cache then
        for _, name in ipairs(OF_THE_URI) do
            cache[name] = nil
        end
    end
end


-- APISIX asks the upstream for its own variable, which has the target as it is spelt.
function _M.set_uri(state, path, args, target)
    local api_ctx = state.api_ctx
    nginx.set_uri(state, path, args, target, false)
    forget_uri(api_ctx)
    api_ctx.var.upstream_uri = target
end


function _M.save_uri(state)
    local api_ctx = state.api_ctx
    local restore, upstream_uri = nginx.save_uri(state), api_ctx.var.upstream_uri
    return function()
        restore()
        forget_uri(api_ctx)
        api_ctx.var.upstream_uri = upstream_uri
    end
end


_M.body = nginx.body


function _M.set_body(state, body)
    nginx.set_body(state, body)
    state.api_ctx.req_post_args = nil
end


-- The upstream that the route has, but for the node.
function _M.set_upstream(state, host, port)
    if find(host, "^unix:") then
        error("APISIX has no upstreams on unix sockets: " .. host, 0)
    end
    local api_ctx = state.api_ctx
    local route = api_ctx.matched_route
    local own = route and route.value.upstream or {}
    local conf = {
        type = "roundrobin",
        nodes = { { host = host, port = tonumber(port), weight = 1 } },
        scheme = own.scheme,
        pass_host = own.pass_host,
        upstream_host = own.upstream_host,
        timeout = own.timeout,
        retries = own.retries,
        keepalive_pool = own.keepalive_pool,
    }
    local upstream = require "apisix.upstream"
    local ok, err = upstream.check_schema(conf)
    if not ok then
        error("APISIX refuses the upstream " .. host .. ": " .. err, 0)
    end
    upstream.set(api_ctx, "resty-ts#" .. host .. "#" .. port, api_ctx.conf_version, conf)
end


-- The consumer whose configuration of this plugin has this value in this field: what the plugin is
-- told of it, or nil.
function _M.find_consumer(state, field, value)
    local consumers = require "apisix.consumer"
    local consumer, conf = consumers.find_consumer(state.plugin, field, value)
    if not consumer then
        return nil
    end
    local name = consumer.consumer_name
    state.consumer, state.consumer_conf = consumer, conf
    return {
        name = name,
        username = consumer.username or null,
        group_id = consumer.group_id or null,
        custom_id = consumer.custom_id or null,
        credential_id = consumer.credential_id or null,
        labels = consumer.labels or null,
        conf = consumer.auth_conf and contexts.own(consumer.auth_conf) or null,
    }
end


function _M.attach_consumer(state, name)
    local consumer = state.consumer
    if not consumer or consumer.consumer_name ~= name then
        error("the consumer " .. tostring(name) .. " was not found before: ctx.apisix.findConsumer",
              0)
    end
    require("apisix.consumer").attach_consumer(state.api_ctx, consumer, state.consumer_conf)
end


return _M
