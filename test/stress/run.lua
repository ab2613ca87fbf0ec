-- Calls from 1,000 coroutines at once, answered in every order; each answer must be its caller's.
--
--   luajit run.lua [CALLS [COROUTINES [FIRST_CURSOR]]]      2000000 1000 0
--
-- Sizes of the payload, which goes and comes back, by share of the calls:
--   60 %     0 to 64 bytes        0.95 %   8 to 64 KiB
--   30 %     65 to 1,024          0.05 %   64 KiB to 1 MiB
--   9 %      1 to 8 KiB           20 in a million   4 MiB
-- Half of them are strings, half bytes. Exits 0 when every call was answered once, by its own
-- answer, and (from a million calls on) the resident memory's level grew by under 5 % after
-- the first tenth. The level is what is left when both garbage collectors have run and the C
-- library has given back what it had free: what large messages leave behind until then is up to
-- 90 MiB, and comes and goes.
local ffi = require "ffi"
local ts = require "resty.ts"

local CALLS = tonumber(arg[1]) or 2000000
local COROUTINES = tonumber(arg[2]) or 1000
local FIRST_CURSOR = tonumber(arg[3]) or 0
local LEVEL_FROM_CALLS = 1000000
local MOST_GROWTH = 1.05
local HUGE_EVERY = 50000

local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or "."
if here:sub(1, 1) ~= "/" then
    here = assert(io.popen("pwd")):read("*l") .. "/" .. here
end

ffi.cdef "int malloc_trim(size_t);"

assert(ts.start { modules = here, timeout_ms = 120000, first_cursor = FIRST_CURSOR })
local stress = ts.import("stress.ts")
local WAYS = { stress.sync, stress.sync, stress.microtask, stress.backwards, stress.timer }

local random = math.random
math.randomseed(42)

-- Payloads of each class, all different: a wrong one shows.
local function pool(from, to, n)
    local list = {}
    for i = 1, n do
        local size = n == 1 and from or from + math.floor((to - from) * (i - 1) / (n - 1) + 0.5)
        local label = from .. ":" .. i .. ","
        local text = label:rep(math.ceil(size / #label)):sub(1, size)
        list[i] = { text = text, bytes = ts.bytes(text) }
    end
    return list
end
local POOLS = { pool(0, 64, 65), pool(65, 1024, 200), pool(1024, 8192, 100),
                pool(8192, 65536, 40), pool(65536, 1048576, 8), pool(4194304, 4194304, 1) }

local function pick(token)
    if token % HUGE_EVERY == HUGE_EVERY / 2 then
        return POOLS[6][1]
    end
    local r = random(10000)
    local list = POOLS[r <= 6000 and 1 or r <= 9000 and 2 or r <= 9900 and 3 or r <= 9995 and 4
                       or 5]
    return list[random(#list)]
end

local page = 4096 / 1048576
local function rss_mb()
    local file = assert(io.open("/proc/self/statm"))
    local _, pages = file:read("*n", "*n")
    file:close()
    return pages * page
end

local sent, answered, bytes, left = 0, 0, 0, COROUTINES
local answers = ffi.new("uint8_t[?]", CALLS)
local wrong

local function check(token, want, is_bytes, answer, err, code)
    if not answer then
        wrong = wrong or ("call %d: %s (%s)"):format(token, err, code)
    elseif answer[1] ~= token then
        wrong = wrong or ("call %d got the answer of %s"):format(token, tostring(answer[1]))
    elseif (is_bytes and answer[2][1] or answer[2]) ~= want.text then
        wrong = wrong or ("call %d got another payload than its own"):format(token)
    end
    answers[token] = answers[token] + 1
    answered = answered + 1
    bytes = bytes + #want.text
end

local function caller()
    while sent < CALLS and not wrong do
        local token = sent
        sent = sent + 1
        local want = pick(token)
        local is_bytes = random(2) == 1
        check(token, want, is_bytes,
              WAYS[random(#WAYS)](token, is_bytes and want.bytes or want.text))
    end
    left = left - 1
end

-- RSS of two stretches of the run, and Node's own figures.
local samples = { first = {}, last = {} }
local node_memory
local function sample()
    collectgarbage()
    node_memory = assert(stress.collect())
    ffi.C.malloc_trim(0)
    local done = answered / CALLS
    local stretch = done >= 0.1 and done < 0.3 and samples.first or done >= 0.8 and samples.last
    if stretch then
        stretch[#stretch + 1] = rss_mb()
    end
end

local function median(list)
    table.sort(list)
    return list[math.ceil(#list / 2)]
end

-- Takes both heaps to their working size: a few large messages at once come by chance only, and
-- what they leave in the allocators is no growth of each call.
local function warm_up()
    local warming = 24
    assert(select(3, stress.begin(warming)) == nil)
    for token = 0, warming - 1 do
        coroutine.wrap(function()
            local huge = POOLS[token % 3 == 0 and 6 or 5][1]
            assert(assert(stress.timer(token, huge.text))[2] == huge.text)
            warming = warming - 1
        end)()
    end
    while warming > 0 do
        ts.poll(1000)
    end
end

warm_up()
assert(select(3, stress.begin(CALLS)) == nil)
local clock = require("resty.ts.native").load().rts_now_us
local start, next_sample, next_report = clock(), 0, 0
for _ = 1, COROUTINES do
    coroutine.wrap(caller)()
end
while left > 0 and not (wrong and ts.stats().pending == 0) do
    ts.poll(1000)
    if answered >= next_sample then
        next_sample = answered + CALLS / 50
        sample()
    end
    if answered >= next_report then
        next_report = next_report + CALLS / 10
        local node = node_memory
        io.stderr:write(("# %3d %%, RSS %.1f MiB; Lua %.1f; V8 %d of %d, external %d\n"):format(
            answered / CALLS * 100, rss_mb(), collectgarbage("count") / 1024, node[1], node[2],
            node[3]))
    end
end
local seconds = tonumber(clock() - start) / 1e6

local function fail(what)
    io.stderr:write("FAILED: ", what, "\n")
    ts.stop()
    os.exit(1, true)
end

if wrong then
    fail(wrong)
end
for token = 0, CALLS - 1 do
    if answers[token] ~= 1 then
        fail(("call %d has %d answers"):format(token, answers[token]))
    end
end
local there = assert(stress["end"]())
if there[1] ~= CALLS or there[2] ~= 0 then
    fail(("%d calls arrived, %d tokens did not"):format(there[1], there[2]))
end
-- The host answers before it gives back the room of what it read.
local stats
for _ = 1, 100 do
    stats = ts.stats()
    if stats.submission_bytes == 0 then
        break
    end
    ts.poll(10)
    ts.call_sync(stress.collect, 1000)
end
if stats.pending ~= 0 or stats.submission_bytes ~= 0 or stats.completion_bytes ~= 0 then
    fail(("at the end %d calls are pending, and %d and %d bytes in the rings"):format(
        stats.pending, stats.submission_bytes, stats.completion_bytes))
end
local first, last = median(samples.first), median(samples.last)
print(("%d calls of %d coroutines in %.1f s, %d MiB each way; RSS %.1f MiB from 10 to 30 %%, "
       .. "%.1f MiB from 80 to 100 %% (%+.1f %%)"):format(CALLS, COROUTINES, seconds,
       bytes / 1048576, first, last, (last / first - 1) * 100))
if CALLS >= LEVEL_FROM_CALLS and last > first * MOST_GROWTH then
    fail("the memory grows")
end
assert(ts.stop())
