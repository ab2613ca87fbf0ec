-- What undoes the changes of a handler that is not done yet, or that nginx may refuse.
--
-- Runs on the Lua side, in phases that can yield. Invariant: a request has one journal at a time,
-- that of the handler whose changes were applied last; what is undone is as it was before that
-- handler began, in the reverse order.

local fields = require "resty.ts.http.fields"
local request = require "resty.ts.http.request"

local ngx = ngx
local ngx_req = ngx.req
local pcall = pcall

local _M = {}


-- By the codes of docs/http-protocol.md: a function(state, a, b) that returns what undoes the
-- change with these arguments. The codes that are missing come last in a handler's group.
local BEFORE = {
    [1] = fields.save_request,
    [2] = function()
        local method = ngx["HTTP_" .. ngx_req.get_method()]
        return function()
            ngx_req.set_method(method)
        end
    end,
    [3] = function(state)
        return state.gateway.save_uri(state)
    end,
    [5] = fields.save_response,
    [6] = function()
        local status = ngx.status
        return function()
            ngx.status = status
        end
    end,
    [7] = function(state, name)
        local var = state.gateway.var
        local value
        if var then
            value = var(state, name)
        else
            value = ngx.var[name]
        end
        return function()
            state.gateway.set_var(state, name, value)
        end
    end,
    [8] = function(state, key)
        local value = state.gateway.ctx(state)[key]
        return function()
            request.set_ctx(state, key, value)
        end
    end,
    [9] = function(state)
        local host, port = state.upstream_host, state.upstream_port
        return function()
            state.upstream_host, state.upstream_port = host, port
        end
    end,
    [16] = fields.save_response,
    [22] = fields.save_request,
}

BEFORE[20] = function(state, what, name)
    return BEFORE[what](state, name)
end

local RESPONSE = { [5] = true, [6] = true, [16] = true }


-- The changes that come are this handler's: its number in the phase. Those of another one stand.
function _M.begin(state, handler)
    local journal = state.journal
    if not journal or journal.handler ~= handler then
        state.journal = { handler = handler, n = 0 }
    end
end


-- What the change of this code and with these arguments would be undone by; nil: nothing.
function _M.before(state, code, a, b)
    local before = BEFORE[code]
    return before and before(state, a, b)
end


-- The change of this code has been made.
function _M.note(state, code, undo)
    local journal = state.journal
    local n = journal.n + 1
    journal.n = n
    journal[n] = undo
    journal[-n] = code
end


-- Undoes what the handler has changed, but for the response when that is asked for. A change that
-- cannot be undone is in the error log.
function _M.undo(state, but_response)
    local journal = state.journal
    if not journal then
        return
    end
    state.journal = nil
    for i = journal.n, 1, -1 do
        if not (but_response and RESPONSE[journal[-i]]) then
            local ok, err = pcall(journal[i])
            if not ok then
                ngx.log(ngx.ERR, "resty.ts: a change of a failed plugin was not undone: ", err)
            end
        end
    end
end


return _M
