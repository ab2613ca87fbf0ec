-- Calls through the real API in plain LuaJIT, with no nginx: what one call costs by depth,
-- and a round trip while both sides are awake, and while both sleep.
-- usage: luajit ring.lua PROJECT_DIR; prints one line of JSON a figure, in microseconds a call.

local ffi = require "ffi"

local root = assert(arg[1], "usage: luajit ring.lua PROJECT_DIR")
package.path = root .. "/lua/?.lua;" .. package.path

local ts = require "resty.ts"

ffi.cdef [[
typedef struct { long sec; long nsec; } rts_bench_time_t;
int rts_bench_gettime(int clock, rts_bench_time_t *now) __asm__("clock_gettime");
int rts_bench_sleep(const rts_bench_time_t *wanted, rts_bench_time_t *left) __asm__("nanosleep");
]]

local CLOCK_MONOTONIC = 1
local DEPTHS = { 1, 4, 16, 64 }
local CALLS = 200000
local ROUND_TRIPS = 50000
local SLEEPS = 100
local PAUSE = ffi.new("rts_bench_time_t", 0, 20e6)
local SYNC_TIMEOUT_MS = 1000

local clock = ffi.new("rts_bench_time_t")

local function now_us()
    ffi.C.rts_bench_gettime(CLOCK_MONOTONIC, clock)
    return tonumber(clock.sec) * 1e6 + tonumber(clock.nsec) / 1e3
end

local function report(name, us)
    io.write(string.format('{"name":"%s","us":%.3f}\n', name, us))
    io.flush()
end

-- `depth` coroutines call until `calls` calls are done; one is always in flight for each.
local function us_a_call(handler, depth, calls)
    local running, failure = depth, nil
    local function work()
        for _ = 1, calls / depth do
            local _, err = handler()
            if err then
                failure = err
                break
            end
        end
        running = running - 1
    end
    local from = now_us()
    for _ = 1, depth do
        local ok, err = coroutine.resume(coroutine.create(work))
        assert(ok, err)
    end
    while running > 0 do
        ts.poll(100)
    end
    local us = (now_us() - from) / calls
    assert(not failure, failure)
    return us
end

local function call_sync(handler)
    local _, err = ts.call_sync(handler, SYNC_TIMEOUT_MS)
    assert(not err, err)
end

local function us_awake(handler, calls)
    local from = now_us()
    for _ = 1, calls do
        call_sync(handler)
    end
    return (now_us() - from) / calls
end

local function us_asleep(handler, calls)
    local took = {}
    for i = 1, calls do
        ffi.C.rts_bench_sleep(PAUSE, nil)
        local from = now_us()
        call_sync(handler)
        took[i] = now_us() - from
    end
    table.sort(took)
    return took[math.ceil(calls / 2)]
end

assert(ts.start { modules = root .. "/test/bench/handlers" })
local nothing = ts.import("bench.ts").nothing

us_a_call(nothing, 16, CALLS) -- warm-up: both compilers have seen the path
for _, depth in ipairs(DEPTHS) do
    report("api, depth " .. depth, us_a_call(nothing, depth, CALLS))
end
us_awake(nothing, ROUND_TRIPS)
report("api, round trip awake", us_awake(nothing, ROUND_TRIPS))
report("api, round trip asleep (median)", us_asleep(nothing, SLEEPS))
ts.stop()
