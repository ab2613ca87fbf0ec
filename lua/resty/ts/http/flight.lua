-- Single flight: of coroutines that want the same thing done at the same time, one does it, and the
-- others wait for what comes of it.
--
-- Runs on the Lua side, in phases that may yield. Invariant: nobody waits for one flight for longer
-- than PATIENCE_MS: whoever flies it may have been ended, together with its client's connection.

local pairs = pairs

local PATIENCE_MS = 1000

local _M = {}

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


-- Returns what f(a, b, c, d) does, three values, here or where it is under way for this holder. f
-- does not throw; fn: the client's function whose answer it waits for. The holder has the flight in
-- a field of its own: one whose coroutine was ended goes with it.
function _M.share(holder, client, fn, f, a, b, c, d)
    local flight = holder.flight
    while flight do
        if wait(flight, client, fn) then
            return flight.first, flight.second, flight.third
        end
        local newer = holder.flight
        flight = newer ~= flight and newer or nil
    end
    flight = { ends = client.now_ms() + PATIENCE_MS, waiters = {} }
    holder.flight = flight
    flight.first, flight.second, flight.third = f(a, b, c, d)
    if holder.flight == flight then
        holder.flight = nil
    end
    for w in pairs(flight.waiters) do
        w.done = true
        client.waiting:wake(w)
    end
    return flight.first, flight.second, flight.third
end


return _M
