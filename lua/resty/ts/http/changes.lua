-- Applies what a call answers: the list of docs/http-protocol.md, "Changes", in its order.
--
-- Runs on the Lua side; reading the body, before it is replaced, may yield. Invariants: what ends
-- the list (an answer, questions, a stream, a failure) is returned, not done: apply is pcalled.
-- What nginx may refuse comes in a handler's group (change 19), which is applied as a whole or not
-- at all.

local asks = require "resty.ts.asks"
local fields = require "resty.ts.http.fields"
local journal = require "resty.ts.http.journal"
local request = require "resty.ts.http.request"
local values = require "resty.ts.values"

local ngx = ngx
local ngx_req = ngx.req
local pcall = pcall
local type = type

local null = values.null
local plain = asks.plain
local set_ctx = request.set_ctx
local set_response, append_response = fields.set_response, fields.append_response

local _M = {
    ANSWER = 10,
    ASK = 11,
    STREAM = 12,
    FAILED = 14,
    REFUSED = 18,
    -- Host and Lua do not understand each other.
    UNKNOWN = -1,
}


-- A field's value: a string, an array of strings, or nil.
local function field_value(v)
    v = plain(v)
    if type(v) == "table" then
        for i = 1, #v do
            v[i] = plain(v[i])
        end
        if #v == 0 then
            return nil
        end
    end
    return v
end


-- Of the change 20: values as an array of strings.
local function write_field(state, what, name, list)
    for i = 1, #list do
        list[i] = plain(list[i])
    end
    fields.write(state, what, plain(name), list)
end


local apply_group

-- Applies the change at [i]. Returns where the next one is; or nil, and what ends the list.
local function apply_one(state, changes, i, on_failure)
    local gateway = state.gateway
    local code, a, b = changes[i], changes[i + 1], changes[i + 2]
    if code == 5 then
        set_response(state, plain(a), field_value(b))
        return i + 3
    elseif code == 1 then
        gateway.set_request_header(state, plain(a), field_value(b))
        return i + 3
    elseif code == 16 then
        append_response(state, plain(a), plain(b))
        return i + 3
    elseif code == 7 then
        gateway.set_var(state, plain(a), plain(b))
        return i + 3
    elseif code == 8 then
        if b == null then
            b = nil
        end
        set_ctx(state, plain(a), b)
        return i + 3
    elseif code == 6 then
        ngx.status = a
        return i + 2
    elseif code == 10 then
        return nil, 10, a, plain(b)
    elseif code == 11 then
        return nil, 11, a, b
    elseif code == 12 then
        return nil, 12, a, b, plain(changes[i + 3])
    elseif code == 13 then
        ngx.arg[1] = plain(a)
        state.body.changed = true
        return i + 2
    elseif code == 14 then
        if b ~= 0 then
            return nil, 14, a, b, changes[i + 3]
        end
        on_failure(a, changes[i + 3])
        return i + 4
    elseif code == 19 then
        return apply_group(state, changes, i)
    elseif code == 21 then
        journal.undo(state)
        return i + 1
    elseif code == 2 then
        ngx_req.set_method(ngx["HTTP_" .. a])
        return i + 2
    elseif code == 3 then
        gateway.set_uri(state, plain(a), plain(b), plain(changes[i + 3]), changes[i + 4])
        return i + 5
    elseif code == 4 then
        gateway.set_body(state, plain(a))
        return i + 2
    elseif code == 9 then
        gateway.set_upstream(state, plain(a), plain(b))
        return i + 3
    elseif code == 17 then
        gateway.attach_consumer(state, plain(a))
        return i + 2
    elseif code == 18 then
        return nil, 18, a, b, changes[i + 3]
    elseif code == 22 then
        gateway.add_request_header(state, plain(a), plain(b))
        return i + 3
    elseif code == 20 then
        write_field(state, a, b, changes[i + 3])
        return i + 4
    else
        return nil, -1, code
    end
end


-- Applies the changes from [i] up to [stop], and notes in the journal what undoes them.
-- Returns what ends the list, if it does.
local function apply_noted(state, changes, i, stop, on_failure)
    local what, a, b, c
    while i and i < stop do
        local code, name = changes[i], plain(changes[i + 1])
        local undo = journal.before(state, code, name, plain(changes[i + 2]))
        i, what, a, b, c = apply_one(state, changes, i, on_failure)
        if undo then
            journal.note(state, code == 20 and name or code, undo)
        end
    end
    return what, a, b, c
end


-- Applies a handler's group at [i]: its number, plugin, policy and how many items it has. What
-- nginx refuses is undone, and left in the state for the one who called apply.
function apply_group(state, changes, i)
    local first = i + 5
    local stop = first + changes[i + 4]
    journal.begin(state, changes[i + 1])
    local ok, err = pcall(apply_noted, state, changes, first, stop)
    if not ok then
        -- An answer, or one to the failure, has the response fields that were set.
        journal.undo(state, changes[i + 3] ~= 0)
        state.refused = { plugin = plain(changes[i + 2]), status = changes[i + 3],
                          text = asks.reason(err) }
    end
    return stop
end


-- Applies changes to the request whose state is given; on_failure(plugin, text) is called for
-- failures that are let pass.
-- Returns nil; or what ends the list, one of the constants above, and its arguments.
function _M.apply(state, changes, on_failure)
    local i, n = 1, #changes
    if changes[n - 2] == 11 then
        journal.expect_more(state)
        return apply_noted(state, changes, i, n, on_failure)
    end
    local what, a, b, c
    -- The first ones in no loop, which would end a trace that comes to it: few lists are longer.
    if i <= n then
        i, what, a, b, c = apply_one(state, changes, i, on_failure)
    end
    if i and i <= n then
        i, what, a, b, c = apply_one(state, changes, i, on_failure)
    end
    while i and i <= n do
        i, what, a, b, c = apply_one(state, changes, i, on_failure)
    end
    return what, a, b, c
end


return _M
