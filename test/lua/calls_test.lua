-- Calls in plain LuaJIT: on the main thread, in coroutines, blocking, and without an answer.
local ffi = require "ffi"
local t = require "tap"
local support = require "support"

local ts = support.start { modules = support.fixtures .. "/modules", timeout_ms = 5000 }
local calls = ts.import("calls.ts")

-- Milliseconds of a clock that goes on while we sleep.
local function now()
    return tonumber(require("resty.ts.native").load().rts_now_us()) / 1000
end

t.test("a call answers on the main thread and in a coroutine", function()
    t.eq(calls.add(1, 2), 3)
    t.eq(calls.arrow(4), 8)
    t.eq(select("#", calls.nothing()), 1)
    t.eq(calls.addLater(1, 2, 5), 3)
    local got
    support.together(ts, function()
        got = calls.add(3, 4)
    end)
    t.eq(got, 7)
end)

t.test("coroutines overlap, and answers out of order find their callers", function()
    local order, jobs = {}, {}
    for i = 1, 20 do
        jobs[i] = function()
            t.eq(calls.addLater(i, 1000, (21 - i) * 10), i + 1000)
            order[#order + 1] = i
        end
    end
    local start = now()
    support.together(ts, unpack(jobs))
    t.ok(now() - start < 1500, "at the same time")
    t.eq(#order, 20)
    t.eq(order[20], 1, "the slowest is last")
end)

t.test("a thenable is waited for, and answers once", function()
    t.eq(calls.thenable(), 7)
    t.match(t.err("handler_failed", calls.thenableThatThrows()), "then threw")
    t.eq(calls.add(1, 2), 3)
end)

t.test("what a handler throws or rejects with is handler_failed, with its message", function()
    t.eq(t.err("handler_failed", calls.boom("broken")), "handler failed: broken")
    t.eq(t.err("handler_failed", calls.boomLater("later")), "handler failed: later")
    t.match(t.err("handler_failed", calls.boom("ünïcode")), "ünïcode")
    t.match(t.err("handler_failed", calls.boom("")), "^handler failed")
end)

t.test("the oddest things thrown are answers, too", function()
    for _, f in ipairs { "throwOdd", "rejectOdd" } do
        for _, kind in ipairs { "string", "undefined", "null", "bare", "unprintable", "symbol",
                                "badMessage", "messageThrows", "stackThrows", "surrogate",
                                "nul" } do
            local start = now()
            local value, err, code = calls[f](kind)
            t.eq(value, nil, kind)
            t.eq(code, "handler_failed", f .. " " .. kind .. ": " .. tostring(err))
            t.ok(now() - start < 3000, f .. " " .. kind .. " at once")
        end
    end
    t.match(select(2, calls.throwOdd("string")), "just text")
    t.eq(calls.add(1, 2), 3)
end)

t.test("a long message comes whole", function()
    local err = t.err("handler_failed", calls.longError(3000000))
    t.ok(#err <= 3000000 + 100 and #err > 1000)
    t.eq(calls.add(1, 2), 3)
end)

t.test("past its deadline a call is timeout, at once, and the handler is told", function()
    local start = now()
    local err = t.err("timeout", ts.call(calls.never, { timeout_ms = 50 }))
    t.match(err, "calls%.ts never")
    t.match(err, "50 ms")
    t.ok(now() - start >= 49)
    t.err("timeout", ts.call(calls.heedsSignal, { timeout_ms = 30 }))
    t.eq(calls.howAborted(), "TimeoutError timeout")
    t.eq(ts.stats().pending, 0, "pending")
end)

t.test("deadlines come from the call, else the import, else the start", function()
    local hasty = ts.import("calls.ts", { timeout_ms = 40, sync_timeout_ms = 30 })
    t.match(t.err("timeout", hasty.never()), "40 ms")
    t.match(t.err("timeout", ts.call_sync(hasty.never)), "30 ms")
    t.match(t.err("timeout", ts.call(hasty.never, { timeout_ms = 20 })), "20 ms")
    t.match(t.err("timeout", ts.call_sync(calls.never)), "50 ms")
    local left = ts.call(calls.hasDeadline, { timeout_ms = 60000 })
    t.ok(left > 55000 and left <= 60002, "deadline in " .. left)
    left = calls.hasDeadline()
    t.ok(left > 3000 and left <= 5002, "deadline in " .. left)
end)

t.test("a coroutine's deadline ends it while others go on", function()
    local early, late
    local start = now()
    support.together(ts, function()
        local _, _, code = ts.call(calls.never, { timeout_ms = 40 })
        early = { code, now() - start }
    end, function()
        late = calls.addLater(1, 1, 400)
    end)
    t.eq(early[1], "timeout")
    t.ok(early[2] >= 39, "not early")
    t.ok(early[2] < 390, "before the other: " .. early[2])
    t.eq(late, 2)
end)

t.test("a late answer meets no other call", function()
    for i = 1, 50 do
        -- On a busy machine the answer may be there when this caller runs again.
        local value, _, code = ts.call(calls.addLater, { timeout_ms = 1 }, i, 0, 5)
        t.ok(code == "timeout" or value == i, code)
        t.eq(calls.add(i, 100), i + 100)
    end
    t.eq(calls.addLater(0, 0, 30), 0)
    t.eq(calls.add(0, 0), 0)
    t.eq(ts.stats().pending, 0)
end)

t.test("call_sync blocks for its answer, in coroutines too", function()
    t.eq(ts.call_sync(calls.add, 1000, 1, 2), 3)
    t.eq(ts.call_sync(calls.addLater, 1000, 1, 2, 20), 3)
    local start = now()
    t.match(t.err("timeout", ts.call_sync(calls.never, 30)), "30 ms")
    t.ok(now() - start >= 29)
    t.err("handler_failed", ts.call_sync(calls.boom, 1000, "x"))
    local inner
    coroutine.wrap(function()
        inner = ts.call_sync(calls.add, 1000, 5, 6)
    end)()
    t.eq(inner, 11)
end)

t.test("a blocking call loses nothing that other coroutines wait for", function()
    local got = {}
    for i = 1, 5 do
        coroutine.wrap(function()
            got[i] = calls.addLater(i, 0, 20)
        end)()
    end
    t.eq(ts.call_sync(calls.addLater, 2000, 1, 1, 100), 2) -- their answers come meanwhile
    for _ = 1, 50 do
        if #got == 5 then
            break
        end
        ts.poll(20)
    end
    t.eq(got, { 1, 2, 3, 4, 5 })

    got = {}
    coroutine.wrap(function()
        got[1] = calls.addLater(1, 0, 20)
    end)()
    t.eq(calls.addLater(2, 2, 100), 4) -- on the main thread
    t.eq(got, { 1 })
end)

t.test("a coroutine that was resumed may block and poll itself", function()
    local got = {}
    local jobs = {}
    for i = 1, 10 do
        jobs[i] = function()
            calls.addLater(i, 0, 20)
            got[2 * i - 1] = ts.call_sync(calls.addLater, 3000, i, 1, 10)
            ts.poll(0)
            got[2 * i] = calls.add(i, 2)
        end
    end
    support.together(ts, unpack(jobs))
    t.eq(#got, 20)
    for i = 1, 10 do
        t.eq(got[2 * i - 1], i + 1)
        t.eq(got[2 * i], i + 2)
    end
end)

t.test("an error in one coroutine leaves the others' answers alone", function()
    local got = {}
    for i = 1, 6 do
        coroutine.wrap(function()
            local sum = calls.addLater(i, 0, 20)
            if i % 2 == 0 then
                error("coroutine " .. i .. " is broken")
            end
            got[#got + 1] = sum
        end)()
    end
    local raised = 0
    for _ = 1, 50 do
        local ok, err = pcall(ts.poll, 20)
        if not ok then
            t.match(err, "is broken")
            raised = raised + 1
        end
        if raised == 3 and #got == 3 then
            break
        end
    end
    t.eq(raised, 3)
    table.sort(got)
    t.eq(got, { 1, 3, 5 })
end)

t.test("notify is taken without an answer, in order", function()
    calls.note("known from here on")
    calls.notesTaken()
    for i = 1, 100 do
        t.eq(ts.notify(calls.note, i), true)
    end
    t.eq(ts.notify(calls.note, ("x"):rep(600000)), true) -- more than a record takes
    local notes = calls.notesTaken()
    t.eq(#notes, 101)
    for i = 1, 100 do
        t.eq(notes[i], i)
    end
    t.eq(#notes[101], 600000)
    t.eq(ts.notify(calls.noteBoom), true)
    t.eq(ts.notify(ts.import("broken/throws.ts").f, 1), true)
    t.eq(ts.notify(calls.noSuchFunction, 1), true)
    t.err("bad_argument", ts.notify(calls.note, print))
    t.eq(calls.add(1, 2), 3)
    t.eq(ts.stats().pending, 0)
    t.ok(ts.stats().notifications >= 104)
end)

t.test("past max_pending a call is refused at once, and later ones are not", function()
    t.ok(ts.stop())
    support.start { modules = support.fixtures .. "/modules", max_pending = 10 }
    local codes = {}
    for i = 1, 15 do
        coroutine.wrap(function()
            local value, _, code = calls.addLater(i, 0, 50)
            codes[i] = code or value
        end)()
    end
    t.eq(ts.stats().pending, 10)
    for i = 11, 15 do
        t.eq(codes[i], "queue_full")
    end
    t.err("queue_full", ts.call_sync(calls.add, 10, 1, 2))
    t.eq(ts.stats().refused, 6)
    for _ = 1, 50 do
        ts.poll(20)
    end
    for i = 1, 10 do
        t.eq(codes[i], i)
    end
    t.eq(calls.add(1, 2), 3)
end)

t.test("a message larger than max_message_bytes is too_large, both ways", function()
    t.ok(ts.stop())
    support.start { modules = support.fixtures, ring_bytes = 8192, max_message_bytes = 65536 }
    local values = ts.import("values.ts")
    local fits, too_long = ("x"):rep(60000), ("x"):rep(70000)
    t.eq(values.echo(fits), fits)
    t.match(t.err("too_large", values.echo(too_long)), "65536")
    t.err("too_large", values.text(70000))
    t.err("too_large", ts.notify(values.echo, too_long))
    t.eq(values.echo(fits), fits)
    t.ok(ts.stop())
    support.start { modules = support.fixtures, max_message_bytes = 65536 } -- in one record, too
    t.err("too_large", values.echo(too_long))
    t.err("too_large", values.text(70000))
    t.eq(values.echo(fits), fits)
    t.eq(ts.stats().pending, 0)
    t.ok(ts.stop())
    support.start { modules = support.fixtures .. "/modules", ring_bytes = 4096,
                    max_message_bytes = 4096 }
    local err = t.err("handler_failed", calls.longError(5000))
    t.ok(#err > 100, "as much of it as fits")
    t.eq(calls.add(1, 2), 3)
    t.ok(ts.stop())
    support.start { modules = support.fixtures .. "/modules" }
end)

t.test("a full ring makes callers wait for room, and loses nothing", function()
    t.ok(ts.stop())
    support.start { modules = support.fixtures, ring_bytes = 4096 }
    local values = ts.import("values.ts")
    local jobs = {}
    for i = 1, 200 do
        jobs[i] = function()
            local s = ("%03d"):format(i):rep(100 + i)
            local back, err = values.echoLater(s)
            t.ok(back == s, "job " .. i .. ": " .. tostring(err))
        end
    end
    support.together(ts, unpack(jobs))
    t.eq(ts.stats().pending, 0)
    t.ok(ts.stop())
    support.start { modules = support.fixtures .. "/modules" }
end)

t.test("the descriptor is readable when there is something to do", function()
    ffi.cdef [[
    typedef struct { int fd; short events; short revents; } rts_test_pollfd;
    int poll(rts_test_pollfd *fds, unsigned long n, int timeout);
    long read(int fd, void *buffer, unsigned long n);
    ]]
    local fd = ts.fd()
    t.ok(fd >= 0)
    t.eq(ts.fd(), fd)
    local pollfd = ffi.new("rts_test_pollfd", fd, 1)
    local buffer = ffi.new("uint64_t[1]")
    for round = 1, 20 do
        local got
        coroutine.wrap(function()
            got = calls.addLater(round, 1, round % 3)
        end)()
        for _ = 1, 100 do
            if got then
                break
            end
            local n
            repeat
                n = ffi.C.poll(pollfd, 1, 5000)
            until n >= 0 or ffi.errno() ~= 4 -- EINTR: a child of the compiler ended
            t.eq(n, 1, "readable in round " .. round .. ", errno " .. ffi.errno())
            ffi.C.read(fd, buffer, 8)
            ts.poll(0)
        end
        t.eq(got, round + 1)
    end
end)

t.test("a caller's mistake is raised, with the caller's line", function()
    t.throws("calls_test%.lua:%d+: ts%.import takes", function() ts.import(5) end)
    t.throws("ts%.import takes", function() ts.import("") end)
    t.throws("timeout_ms", function() ts.import("calls.ts", { timeout_ms = 0 }) end)
    t.throws("timeout_ms", function() ts.call(calls.add, { timeout_ms = "1" }) end)
    t.throws("timeout_ms", function() ts.call_sync(calls.add, 1.5) end)
    t.throws("ts%.call takes a function", function() ts.call(print, {}) end)
    t.throws("ts%.call_sync takes a function", function() ts.call_sync("x") end)
    t.throws("ts%.notify takes a function", function() ts.notify() end)
    t.throws("export's name", function() return calls[1] end)
    t.throws("ts%.bytes takes a string", function() ts.bytes(1) end)
    t.throws("ts%.array takes a table", function() ts.array(1) end)
end)

t.test("a rejection that nobody waits for ends nothing", function()
    t.eq(calls.unhandled(), "still here")
    t.eq(calls.addLater(1, 2, 20), 3)
    t.eq(ts.stats().state, "ready")
end)

ts.stop()
t.done()
