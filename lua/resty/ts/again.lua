-- Calls that may be made twice: those that were in flight when their environment ended are made
-- again in the next one, within their deadline.
--
-- Runs on the Lua side. Invariant: a call is repeated twice at most, so that one that itself ends
-- environments does not end one after the other.

local math_ceil = math.ceil

local MOST = 2
local ENDED = { exited = true, stalled = true, out_of_memory = true, protocol = true }

local _M = {
    -- Codes of calls that may have been begun, and will not be answered.
    ended = ENDED,
    most = MOST,
}


-- As client:call.
function _M.call(client, fn, timeout_ms, ...)
    local deadline = client.now_ms() + timeout_ms
    local value, err, code = client:call(fn, timeout_ms, ...)
    for _ = 1, MOST do
        local left = ENDED[code] and math_ceil(deadline - client.now_ms()) or 0
        if left <= 0 then
            break
        end
        client.stats.repeated = client.stats.repeated + 1
        value, err, code = client:call(fn, left, ...)
    end
    return value, err, code
end


return _M
