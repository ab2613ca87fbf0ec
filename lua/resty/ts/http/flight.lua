-- Single flight: of coroutines that want the same thing done at the same time, one does it, and the
-- others wait for what comes of it.
--
-- Runs on the Lua side, in phases that may yield. Invariant: nobody waits for one flight for longer
-- than PATIENCE_MS: whoever flies it may have been ended, together with its client's connection.

local semaphore = require "ngx.semaphore"

local PATIENCE_MS = 1000

local _M = {}

local flights = {} -- key -> the last one that began, until it has landed


-- Waits for it to land. Returns whether it has.
local function wait(flight, now_ms)
    local left = flight.ends - now_ms()
    if left <= 0 then
        return false
    end
    flight.waiting = flight.waiting + 1
    local landed = flight.landed:wait(left / 1000)
    flight.waiting = flight.waiting - 1
    return landed
end


-- Returns what f(a, b, c, d) does, three values, here or where it is under way for this key.
-- now_ms: the clock. f does not throw.
function _M.share(key, now_ms, f, a, b, c, d)
    local flight = flights[key]
    while flight do
        if wait(flight, now_ms) then
            return flight.first, flight.second, flight.third
        end
        local newer = flights[key]
        flight = newer ~= flight and newer or nil
    end
    flight = { ends = now_ms() + PATIENCE_MS, landed = semaphore.new(0), waiting = 0 }
    flights[key] = flight
    flight.first, flight.second, flight.third = f(a, b, c, d)
    if flights[key] == flight then
        flights[key] = nil
    end
    if flight.waiting > 0 then
        flight.landed:post(flight.waiting)
    end
    return flight.first, flight.second, flight.third
end


return _M
