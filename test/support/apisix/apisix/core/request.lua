-- core.request: the client's request. `ctx` is the request's api_ctx and may be left out.
-- Runs in the phases of a request.
local add_request_header = require("ngx.req").add_header

local _M = {}

function _M.headers(_ctx)
    return ngx.req.get_headers()
end

-- The first one of repeated fields.
function _M.header(ctx, name)
    local value = _M.headers(ctx)[name]
    return type(value) == "table" and value[1] or value
end

local function change(set, ctx, name, value)
    if type(ctx) == "string" then
        -- The older form, without a ctx.
        ctx, name, value = nil, ctx, name
    end
    if type(name) ~= "string" then
        error(("invalid header name %q: got %s, expected string")
            :format(tostring(name), type(name)))
    end
    set(name, value)
    if ctx and ctx.var then
        -- As APISIX has it: the cached variable of a name with "-" is another key, and stays.
        ctx.var["http_" .. name:lower()] = nil
    end
end

function _M.set_header(ctx, name, value)
    change(ngx.req.set_header, ctx, name, value)
end

function _M.add_header(ctx, name, value)
    change(add_request_header, ctx, name, value)
end

-- The very table that the request keeps, until set_uri_args.
function _M.get_uri_args(ctx)
    ctx = ctx or ngx.ctx.api_ctx
    if not ctx.req_uri_args then
        ctx.req_uri_args = ngx.req.get_uri_args(0)
    end
    return ctx.req_uri_args
end

function _M.set_uri_args(ctx, args)
    ctx = ctx or ngx.ctx.api_ctx
    ctx.req_uri_args = nil
    return ngx.req.set_uri_args(args)
end

local function too_large(size, max_size)
    return nil, "request size " .. size .. " is greater than the maximum size " .. max_size
        .. " allowed"
end

function _M.get_body(max_size, ctx)
    local length = tonumber((ctx and ctx.var or ngx.var).http_content_length)
    if max_size and length and length > max_size then
        return too_large(length, max_size)
    end
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if not body then
        local path = ngx.req.get_body_file()
        if not path then
            return nil
        end
        local file, err = io.open(path, "rb")
        if not file then
            return nil, err
        end
        body = file:read("*a")
        file:close()
    end
    if max_size and #body > max_size then
        return too_large(#body, max_size)
    end
    return body
end

function _M.get_ip(ctx)
    return (ctx or ngx.ctx.api_ctx).var.remote_addr or ""
end

_M.get_remote_client_ip = _M.get_ip

function _M.get_remote_client_port(ctx)
    return tonumber((ctx or ngx.ctx.api_ctx).var.remote_port)
end

function _M.get_scheme(ctx)
    return (ctx or ngx.ctx.api_ctx).var.scheme or ""
end

function _M.get_host(ctx)
    return (ctx or ngx.ctx.api_ctx).var.host or ""
end

_M.get_http_version = ngx.req.http_version
_M.get_method = ngx.req.get_method

return _M
