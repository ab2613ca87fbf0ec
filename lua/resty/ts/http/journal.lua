-- What undoes the changes of a phase that is not over: those of the handler that fails, or all when
-- the phase's call does.
--
-- Runs on the Lua side, in phases that can yield. Invariant: a request has one journal at a time,
-- that of the phase; what is undone is as it was before that handler or phase began, in the reverse
-- order.

local fields = require "resty.ts.http.fields"
local request = require "resty.ts.http.request"

local ngx = ngx
local ngx_req = ngx.req
local pcall = pcall

local _M = {}


-- By the codes of docs/http-protocol.md: a function(state, a, b) that returns what undoes the
-- change with these arguments. Those of the codes that are missing cannot be undone.
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

-- Nginx lets go of a body that is replaced: this holds its bytes until the phase is over.
BEFORE[4] = function(state)
    if not state.journal.more then
        return nil
    end
    local gateway = state.gateway
    local body = gateway.body()
    return function()
        gateway.set_body(state, body)
    end
end

BEFORE[20] = function(state, what, name)
    return BEFORE[what](state, name)
end

local RESPONSE = { [5] = true, [6] = true, [16] = true }


-- The request's journal: where the last handler's notes begin, how many there are in all, and
-- whether handlers come after these changes.
local function journal_of(state)
    local journal = state.journal
    if not journal then
        journal = { handler = nil, from = 0, n = 0, more = false }
        state.journal = journal
    end
    return journal
end


-- The changes that come are this handler's: its number in the phase.
function _M.begin(state, handler)
    local journal = journal_of(state)
    if journal.handler ~= handler then
        journal.handler, journal.from = handler, journal.n
    end
end


-- The phase goes on after the changes that come.
function _M.expect_more(state)
    journal_of(state).more = true
end


-- What the change of this code and with these arguments would be undone by; nil: nothing.
function _M.before(state, code, a, b)
    local before = BEFORE[code]
    return before and before(state, a, b)
end


-- The change of this code has been made.
function _M.note(state, code, undo)
    local journal = journal_of(state)
    local n = journal.n + 1
    journal.n = n
    journal[n] = undo
    journal[-n] = code
end


-- Undoes the changes after the first `from`, but for the response when that is asked for. One that
-- cannot be undone is in the error log.
local function undo_from(journal, from, but_response)
    for i = journal.n, from + 1, -1 do
        if journal[i] and not (but_response and RESPONSE[journal[-i]]) then
            local ok, err = pcall(journal[i])
            if not ok then
                ngx.log(ngx.ERR, "resty.ts: a change of a failed plugin was not undone: ", err)
            end
            journal[i] = false
        end
    end
    if not but_response then
        journal.n = from
    end
end


-- Undoes what the last handler has changed.
function _M.undo(state, but_response)
    local journal = state.journal
    if journal then
        undo_from(journal, journal.from, but_response)
    end
end


-- Undoes all that the phase has changed.
function _M.undo_all(state)
    local journal = state.journal
    state.journal = nil
    if journal then
        undo_from(journal, 0, false)
    end
end


return _M
