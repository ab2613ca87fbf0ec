-- What serves the requests: here nginx alone. A gateway on top of it, as Apache APISIX is one, has
-- its own way to answer and keeps copies of what it has read, so it gives a table of its own with
-- the same functions (resty.ts.apisix.gateway).
--
-- Runs on the Lua side. Invariant: nothing of a plugin's changes what such a gateway keeps, or asks
-- it for something, but through these. Each function gets the request's state.

local targets = require "resty.ts.http.target"

local save_target, set_target = targets.save, targets.set
local ngx = ngx
local ngx_req = ngx.req
local io_open = io.open
local assert = assert
local add_header = require("resty.core.request").set_req_header

local _M = {
    -- Of the head, in all messages: docs/http-protocol.md.
    flags = 0,
    -- function(state): what the upstream will be asked for when that is no longer what nginx has, a
    -- raw path with its query; or nil.
    uri = nil,
    -- function(state, name): a variable, when they are more than nginx's own.
    var = nil,
    -- function(state, status, body): answers with this in place of the response whose header is
    -- about to be sent. Nil: it cannot.
    replace = nil,
}


-- Whether a response of this status has a body.
local function has_body(status)
    return status >= 200 and status ~= 204 and status ~= 304
end

_M.has_body = has_body


-- Answers the client and ends the request. body: string or nil. HEAD has the length of a body that
-- is there, and without one that which is set, if any.
function _M.answer(state, status, body)
    state.overrides = nil -- there is no other response
    ngx.status = status
    local is_head = ngx_req.get_method() == "HEAD"
    if has_body(status) and (body or not is_head) then
        ngx.header["Content-Length"] = body and #body or 0
    end
    if body and body ~= "" and has_body(status) and not is_head then
        ngx.print(body)
    else
        ngx.send_headers()
    end
    return ngx.exit(ngx.HTTP_OK)
end


-- An answer is on its way that is sent piece by piece.
function _M.answering(state)
    state.overrides = nil
end


-- Where Lua code of the request has its own: ctx.ctx.
function _M.ctx()
    return ngx.ctx
end


-- value: a string, an array of strings, or nil.
function _M.set_request_header(_, name, value)
    ngx_req.set_header(name, value)
end


-- One more of a name that nginx may have several of.
function _M.add_request_header(_, name, value)
    add_header(name, value, false)
end


-- path: as $uri, or nil: it stays. args: string or nil. target: path and query as the upstream gets
-- them. is_spelt: nginx by itself would spell it otherwise.
function _M.set_uri(state, path, args, target, is_spelt)
    local original = state.original_target or ngx.var.request_uri
    set_target(path, args or "", is_spelt and target)
    state.target, state.original_target = target, original
end


-- Returns a function that sets the URI to what it is now.
function _M.save_uri(state)
    local target, original, restore = state.target, state.original_target, save_target()
    return function()
        restore()
        state.target, state.original_target = target, original
    end
end


-- The body's bytes.
function _M.body()
    ngx_req.read_body()
    local body, path = ngx_req.get_body_data(), ngx_req.get_body_file()
    if not body and path then
        local file = assert(io_open(path, "rb"))
        body = file:read("*a")
        file:close()
    end
    return body or ""
end


function _M.set_body(_, body)
    ngx_req.read_body()
    ngx_req.set_body_data(body)
end


-- value: a string, a number or nil.
function _M.set_var(_, name, value)
    ngx.var[name] = value
end


-- For http.balancer().
function _M.set_upstream(state, host, port)
    state.upstream_host, state.upstream_port = host, port
end


-- The consumer that was found last under this name is whose request it is.
function _M.attach_consumer()
    error("consumers are Apache APISIX's", 0)
end


return _M
