-- Environments of this worker, of all clients, that have ended and whose threads may not have: how
-- many of them are left to themselves, as they do not end.
--
-- Runs on the Lua side. Invariant: a life is asked about only until it is freed.

local table_remove = table.remove

-- How long a thread may take to end after its environment.
local TEARDOWN_MS = 1000

local lives = {}

local _M = {}


-- is_running: whether it was given up while it still ran.
function _M.add(lib, life, is_running, now_ms)
    lives[#lives + 1] = { lib = lib, life = life, since = is_running and 0 or now_ms + TEARDOWN_MS }
end


function _M.count(now_ms)
    local count = 0
    for i = #lives, 1, -1 do
        local one = lives[i]
        local life = one.life
        if life.holder[0] == nil or one.lib.rts_runtime_ended(life.runtime) ~= 0 then
            table_remove(lives, i)
        elseif now_ms >= one.since then
            count = count + 1
        end
    end
    return count
end


return _M
