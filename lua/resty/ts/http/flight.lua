-- Single flight: of coroutines that want the same thing done at the same time, one has it done, and
-- each waits for what comes of it until its own deadline.
--
-- Runs on the Lua side; flights in light threads of one timer, so that none ends with the request
-- that began it. Invariant: an exiting worker is held up by those flights alone that somebody waits
-- for.

local failure = require "resty.ts.failure"

local next = next
local pairs = pairs
local pcall = pcall
local tostring = tostring
local math_min = math.min
local ngx = ngx

-- How long a timer that is due may take to come, and how often those who wait look.
local LATE_MS = 1000
local FOREVER_S, EXITING_S = 86400, 0.05

local _M = {}

local flights = {}  -- those under way, and those that are to begin
local news          -- a signal: something has begun or ended, or the worker exits
local running = false
local due = 0       -- when the timer that is scheduled is late


local function land(flight, ok, first, second, third)
    if not ok then
        first, second, third = failure("handler_failed", tostring(first))
    end
    flight.first, flight.second, flight.third = first, second, third
    flights[flight] = nil
    if flight.holder.flight == flight then
        flight.holder.flight = nil
    end
    for w in pairs(flight.waiters) do
        w.done = true
        flight.client.waiting:wake(w)
    end
    news:post(1)
end


local function fly(flight)
    land(flight, pcall(flight.f, flight.a, flight.b, flight.c, flight.d))
end


-- Whether somebody waits: a request may have been ended in its wait.
local function is_wanted(flight)
    for w in pairs(flight.waiters) do
        if not flight.client.waiting.abandoned(w) then
            return true
        end
    end
    return false
end


-- A timer's handler, also when it is premature.
local function run()
    if running then
        return
    end
    running, due = true, 0
    while next(flights) do
        local exiting = ngx.worker.exiting()
        local unwanted = {}
        for flight in pairs(flights) do
            if not flight.thread then
                flight.thread = true
                flight.thread = ngx.thread.spawn(fly, flight)
            elseif exiting and not is_wanted(flight) then
                unwanted[#unwanted + 1] = flight
            end
        end
        for i = 1, #unwanted do
            ngx.thread.kill(unwanted[i].thread)
            land(unwanted[i], true, failure("stopped", "the worker exits"))
        end
        news:wait(exiting and EXITING_S or FOREVER_S)
    end
    running = false
end


local function ensure_running(now)
    if running then
        news:post(1)
    elseif now >= due and ngx.timer.at(0, run) then
        due = now + LATE_MS
    end
end


-- Begins f(a, b, c, d), which returns three values, unless it is under way for this holder. Does
-- not wait. The holder has the flight in a field of its own.
function _M.begin(holder, client, f, a, b, c, d)
    if not news then
        news = client.waiting.new_signal()
        client.waiting.at_exit(function()
            news:post(1)
        end)
    end
    local flight = holder.flight
    if not flight then
        flight = { holder = holder, client = client, thread = nil, waiters = {},
                   f = f, a = a, b = b, c = c, d = d }
        holder.flight = flight
        flights[flight] = true
    end
    if not flight.thread then
        ensure_running(client.now_ms())
    end
    return flight
end


-- The same, and waits for it until the deadline. fn: the client's function that is to answer.
-- Returns true and the three values; or false, when the deadline has passed.
function _M.share(holder, client, fn, deadline, f, a, b, c, d)
    local flight = _M.begin(holder, client, f, a, b, c, d)
    local waiting = client.waiting
    local w = waiting:new_waiter()
    flight.waiters[w] = true
    local landed = false
    while flights[flight] and not landed do
        local now = client.now_ms()
        if now >= deadline then
            break
        end
        if not flight.thread then
            ensure_running(now)
        end
        landed = waiting:wait(w, math_min(deadline - now, LATE_MS), fn)
    end
    flight.waiters[w] = nil
    waiting:recycle(w)
    if flights[flight] then
        return false
    end
    return true, flight.first, flight.second, flight.third
end


return _M
