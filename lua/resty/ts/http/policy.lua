-- What a client gets when plugins fail, and the log line that says why.
--
-- Runs on the Lua side. Invariant: no text of a failure reaches the client; it gets the status, its
-- name and the request's id, which the log line has, too.

local host = require "resty.ts.http.host"
local options = require "resty.ts.http.options"
local request = require "resty.ts.http.request"

local ngx = ngx
local error = error
local byte = string.byte
local format = string.format
local gsub = string.gsub

local TITLES = {
    [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found",
    [405] = "Method Not Allowed", [408] = "Request Timeout", [409] = "Conflict", [410] = "Gone",
    [413] = "Content Too Large", [415] = "Unsupported Media Type",
    [422] = "Unprocessable Content", [425] = "Too Early", [429] = "Too Many Requests",
    [451] = "Unavailable For Legal Reasons", [500] = "Internal Server Error",
    [501] = "Not Implemented", [502] = "Bad Gateway", [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
}

local _M = {}


-- As JSON has it. lua-cjson is not there wherever nginx's Lua module is.
local function quoted(text)
    return '"' .. gsub(text, '[%c"\\]', function(char)
        return format("\\u%04x", byte(char))
    end) .. '"'
end


-- Writes the reason to the error log, at the level ERR unless told: as many lines as there is room
-- for (plugin_log.lua).
function _M.log(phase, plugins, text, level)
    text = "resty.ts: " .. plugins .. ", " .. phase.name .. ", request "
           .. request.text(request.get()) .. ": " .. text
    local client = not level and host.clients()[1]
    if not client or client:may_log(1, text) then
        ngx.log(level or ngx.ERR, text)
    end
end


-- Whether this body must not go on as it came: a part of it was changed, or that would be wrong
-- (whole.lua). It may not have begun yet.
local function must_not_pass(phase, state)
    local body = phase.bodies and state.body
    return body and (body.changed or body.closed)
end


-- Ends the request so that the client sees that it has failed: the connection closes.
-- In body_filter_by_lua* nothing but an error does that.
function _M.cut(phase)
    request.get().cut = true
    if phase.bodies then
        local body = request.get().body
        error("resty.ts: the connection is cut, see above"
              .. (body and body.changed and "; a part of the body was changed before" or ""), 0)
    end
    return ngx.exit(ngx.ERROR)
end


-- Does what a policy's status says: 0 goes on, but not with a body that is changed in part.
function _M.refuse(phase, status)
    if phase.name == "log" then
        return
    end
    local state = request.get()
    if status == 0 then
        if must_not_pass(phase, state) then
            return _M.cut(phase)
        end
        return
    end
    local gateway = state.gateway
    local answer = gateway.answer
    if not phase.answers then
        answer = phase.name == "header_filter" and state.replaces and gateway.replace
        if not answer then
            return _M.cut(phase)
        end
    end
    state.answered = true
    local header = ngx.header
    header["Content-Type"] = "application/problem+json"
    header["Content-Encoding"] = nil
    return answer(state, status,
                  format('{"type":"about:blank","title":%s,"status":%d,"request_id":%s}',
                         quoted(TITLES[status] or "Error"), status, quoted(request.text(state))))
end


-- A phase's call has failed. p: the phase as `configure` described it.
function _M.failed(phase, p, err, code)
    _M.log(phase, p.plugins, err)
    return _M.refuse(phase, p[options.kind(code)])
end


-- The policy for a chain that could not be configured, as the request's state has it. A
-- configuration that is wrong is wrong before the answer, whatever the policies. Else what the
-- plugins say counts, where it is known of this request or of the last configuration; else what the
-- chain's list says, and so for a strict chain.
function _M.unavailable(phase, chain, state)
    local kind = state.failed_kind
    -- What is sent is what was answered when the chain failed first.
    if not phase.answers and state.answered then
        return
    end
    local known = not chain.strict and (state[chain] or chain.version)
    local p = known and known.phases[phase.name]
    if known and not p then
        return
    elseif phase.answers and kind == "on_error" and not chain.strict then
        return _M.refuse(phase, options.CLOSED.on_error)
    end
    return _M.refuse(phase, p and p[kind] or chain.policies[kind])
end


return _M
