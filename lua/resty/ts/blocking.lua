-- How long the worker may block for answers that do not come, in phases that cannot yield: of all
-- clients together, as nginx serves nobody meanwhile.
--
-- Runs on the Lua side. Invariants: in one turn of nginx's loop calls block in vain for twice
-- their deadline at most, whatever their number; after one that has blocked for its whole deadline
-- nginx serves others for as long before the next one may; and for environments that start calls
-- block, beside that, for MOST_START_MS until one of them has configured a chain.

local wait = require "resty.ts.wait"

local math_ceil = math.ceil
local math_max = math.max
local ngx = ngx

local MOST_START_MS = 2000
-- What a call has when others have just had theirs in vain: an idle host answers sooner.
local LITTLE_MS = 1

local turn, turn_ms = nil, 0    -- the last one with a call in vain, and for how long it blocked
local free_at = 0               -- when nginx will have served others for as long as it has blocked
local is_cut = false            -- whether the last call had less than its deadline
local start_ms = MOST_START_MS

local _M = {}


-- What nginx's clock says during this turn of its loop, in ms.
local function turn_of()
    return ngx.now() * 1000
end


-- For how long a call with this deadline may block now.
function _M.call_ms(timeout_ms)
    if not turn then
        return timeout_ms
    end
    local now = turn_of()
    local blocked_ms = now == turn and turn_ms or 0
    if blocked_ms >= 2 * timeout_ms then
        return 0
    end
    local less_ms = math_max(blocked_ms, free_at - now - blocked_ms)
    local ms = math_max(LITTLE_MS, math_ceil(timeout_ms - less_ms))
    is_cut = ms < timeout_ms
    return ms
end


-- A call has blocked for so long, and was not answered.
function _M.in_vain(ms)
    if not wait.in_nginx then
        return -- nobody else waits
    end
    local now = turn_of()
    if now ~= turn then
        turn, turn_ms = now, 0
    end
    turn_ms = turn_ms + ms
    -- What was cut short says little of the host: it must not keep others short, too.
    if not is_cut then
        free_at = now + 2 * turn_ms
    end
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
