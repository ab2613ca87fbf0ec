-- How long the worker may block for answers that do not come, in phases that cannot yield: of all
-- clients together, as nginx serves nobody meanwhile.
--
-- Runs on the Lua side. Invariants: in one turn of nginx's loop calls block in vain for twice
-- their deadline at most, whatever their number; and for environments that start, beside that, for
-- MOST_START_MS until one of them has configured a chain.

local wait = require "resty.ts.wait"

local math_ceil = math.ceil
local math_max = math.max

local MOST_START_MS = 2000
-- What a call has when others of its turn have had theirs in vain: an idle host answers sooner.
local LITTLE_MS = 1

local turn_of -- what nginx's clock says during this turn of its loop
if wait.in_nginx then
    turn_of = ngx.now
else
    turn_of = function()
        return nil -- nobody else waits
    end
end

local turn, turn_ms = nil, 0    -- the last one with a call in vain, and for how long it blocked
local start_ms = MOST_START_MS

local _M = {}


-- For how long a call with this deadline may block now.
function _M.call_ms(timeout_ms)
    if not turn or turn_of() ~= turn then
        return timeout_ms
    elseif turn_ms < 2 * timeout_ms then
        return math_max(LITTLE_MS, math_ceil(timeout_ms - turn_ms))
    end
    return 0
end


-- A call has blocked for so long, and was not answered.
function _M.in_vain(ms)
    local now = turn_of()
    if now ~= turn then
        turn, turn_ms = now, 0
    end
    turn_ms = turn_ms + ms
end


-- For how long calls may block now for a start.
function _M.start_ms()
    return start_ms
end


-- A call has blocked for so long, perhaps for a start.
function _M.spend_start(ms)
    start_ms = math_max(0, start_ms - ms)
end


-- An environment has configured a chain.
function _M.started()
    start_ms = MOST_START_MS
end


return _M
