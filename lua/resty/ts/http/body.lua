-- A response's body on its way through a chain's filters: what is kept of it between its pieces.
--
-- Runs on the Lua side, in body_filter; nothing here yields. Invariant: a request has one such body
-- for each chain and phase, and the pieces of one that is off pass as they come.

local host = require "resty.ts.http.host"
local policy = require "resty.ts.http.policy"
local request = require "resty.ts.http.request"
local whole = require "resty.ts.http.whole"

local ngx = ngx
local table_concat = table.concat

local _M = {}


-- Collects the pieces of a body up to the limit. Returns the whole once it is there; or nil and the
-- pieces of a longer one; or nil: nothing yet.
function _M.collect(p, body, chunk, last)
    local pieces = body.pieces
    if not pieces then
        pieces = {}
        body.pieces = pieces
        body.bytes = 0
    end
    pieces[#pieces + 1] = chunk
    body.bytes = body.bytes + #chunk
    if body.bytes > p.buffer_bytes then
        body.pieces = nil
        return nil, pieces
    elseif not last then
        ngx.arg[1] = nil
        return nil
    end
    body.pieces = nil
    chunk = table_concat(pieces)
    ngx.arg[1] = chunk
    return chunk
end


-- The body that the chain filters in this phase.
function _M.of(phase, state, chain)
    local bodies = state[phase.bodies]
    if not bodies then
        bodies = {}
        state[phase.bodies] = bodies
    end
    local body = bodies[chain]
    if not body then
        local status = ngx.status
        -- Where there may be no body nothing can become one.
        body = { started = false, changed = false, off = status == 204 or status == 304,
                 closed = whole.is_closed(state), pieces = nil, bytes = 0, generation = nil }
        bodies[chain] = body
    end
    state.body = body
    return body
end


-- Whether there is nothing more to be done about this body: it has failed, or fails now, as the
-- environment has ended that had its beginning.
function _M.is_off(phase, chain)
    local state = request.peek()
    if not state then
        return false
    elseif state.cut then
        ngx.arg[1] = nil -- nginx ends the response as if it were whole
        return true
    end
    local bodies = state[phase.bodies]
    local body = bodies and bodies[chain]
    state.body = body -- what another chain has done to it is not this one's
    if not body then
        return false
    end
    local client = host.client(chain.place)
    if body.started and not body.off and body.generation ~= client.generation then
        body.off = true
        policy.failed(phase, state[chain].phases[phase.name],
                      "the environment ended while the body was under way", "exited")
    end
    return body.off
end


return _M
