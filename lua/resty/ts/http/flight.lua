-- Single flight: of coroutines that want the same thing done at the same time, one does it, and the
-- others wait for what comes of it.
--
-- Runs on the Lua side, in phases that may yield. Invariant: nobody waits for one flight for longer
-- than PATIENCE_MS: whoever flies it may have been ended, together with its client's connection.

local pairs = pairs

local PATIENCE_MS = 1000

local _M = {}

local flights = {} -- key -> the last one that began, until it has landed


-- Waits for it to land. Returns whether it has.
local function wait(flight, client, fn)
    local left = flight.ends - client.now_ms()
    if left <= 0 then
        return false
    end
    local waiting = client.waiting
    local w = waiting:new_waiter()
    flight.waiters[w] = true
    local landed = waiting:wait(w, left, fn)
    flight.waiters[w] = nil
    waiting:recycle(w)
    return landed
end


-- Returns what f(a, b, c, d) does, three values, here or where it is under way for this key. f does
-- not throw; fn: the client's function whose answer it waits for.
function _M.share(key, client, fn, f, a, b, c, d)
    local flight = flights[key]
    while flight do
        if wait(flight, client, fn) then
            return flight.first, flight.second, flight.third
        end
        local newer = flights[key]
        flight = newer ~= flight and newer or nil
    end
    flight = { ends = client.now_ms() + PATIENCE_MS, waiters = {} }
    flights[key] = flight
    flight.first, flight.second, flight.third = f(a, b, c, d)
    if flights[key] == flight then
        flights[key] = nil
    end
    for w in pairs(flight.waiters) do
        w.done = true
        client.waiting:wake(w)
    end
    return flight.first, flight.second, flight.third
end


return _M
