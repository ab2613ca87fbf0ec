-- core.response: the answer to the client. `exit` ends the phase that it is called in.
-- Runs in the phases of a request.
local cjson = require "cjson.safe"
local add_response_header = require("ngx.resp").add_header

local _M = { version = 0.1 }

local function text_of(value)
    if type(value) ~= "table" then
        return value
    end
    local text, err = cjson.encode(value)
    if not text then
        error("failed to encode data: " .. err, -2)
    end
    return text .. "\n"
end

-- A table goes out as JSON and a line feed. Without a code nothing ends.
function _M.exit(code, ...)
    local parts = {}
    if code and type(code) ~= "number" then
        parts[1] = code
        code = nil
    end
    for i = 1, select("#", ...) do
        local part = text_of((select(i, ...)))
        if part ~= nil then
            parts[#parts + 1] = part
        end
    end
    if code then
        ngx.status = code
    end
    if #parts > 0 then
        ngx.print(parts)
    end
    if code then
        local ctx = ngx.ctx.api_ctx
        if ctx and not ctx._resp_source then
            ctx._resp_source = "apisix"
        end
        return ngx.exit(code)
    end
end

function _M.say(...)
    _M.exit(nil, ...)
end

local function set_fields(set, ...)
    if ngx.headers_sent then
        error("headers have already been sent", 2)
    end
    local count, first = select("#", ...), ...
    if count == 1 then
        if type(first) ~= "table" then
            return set(first, nil)
        end
        for name, value in pairs(first) do
            set(name, value)
        end
        return
    end
    for i = 1, count, 2 do
        set((select(i, ...)), (select(i + 1, ...)))
    end
end

function _M.set_header(...)
    set_fields(function(name, value)
        ngx.header[name] = value
    end, ...)
end

function _M.add_header(...)
    set_fields(add_response_header, ...)
end

-- "apisix", "upstream" or "nginx": who the answer is from.
function _M.set_response_source(ctx, source)
    if ctx then
        ctx._resp_source = source
    end
end

function _M.get_response_source(ctx)
    if not ctx or ctx._resp_source or not ctx._apisix_proxied then
        return ctx and ctx._resp_source or "apisix"
    end
    local last = (ngx.var.upstream_header_time or "-"):match("[^%s,]+$")
    return last == "-" and "nginx" or "upstream"
end

function _M.get_upstream_status(ctx)
    return tonumber((ctx.var.upstream_status or ""):sub(-3))
end

function _M.clear_header_as_body_modified()
    for _, name in ipairs { "Content-Length", "Content-Encoding", "Last-Modified", "ETag" } do
        ngx.header[name] = nil
    end
end

-- In body_filter: nil until the last piece, which gets the whole; what was held is not sent.
function _M.hold_body_chunk(ctx, hold_the_copy)
    local held = ctx._body_buffer or {}
    ctx._body_buffer = held
    local pieces = held[ctx._plugin_name] or {}
    held[ctx._plugin_name] = pieces
    local chunk, last = ngx.arg[1], ngx.arg[2]
    if type(chunk) == "string" and chunk ~= "" then
        pieces[#pieces + 1] = chunk
    end
    if last then
        held[ctx._plugin_name] = nil
        return table.concat(pieces)
    end
    if not hold_the_copy then
        ngx.arg[1] = nil
    end
    return nil
end

return _M
