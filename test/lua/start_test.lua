-- Starting and stopping: every option that is wrong, everything that is missing, in words.
local t = require "tap"
local support = require "support"
local ts = require "resty.ts"

local fixtures = support.fixtures .. "/modules"

t.test("before the start every function says so", function()
    local calls = ts.import("calls.ts")
    for _, result in ipairs { { calls.add(1, 2) }, { ts.call(calls.add, {}, 1, 2) },
                              { ts.call_sync(calls.add, 10, 1, 2) }, { ts.notify(calls.add, 1) },
                              { ts.stats() }, { ts.poll(0) }, { ts.fd() }, { ts.stop() } } do
        t.match(t.err("not_started", unpack(result, 1, 3)), "ts%.start")
    end
end)

t.test("a wrong option is named, with what it takes", function()
    t.throws("table of options", ts.start)
    t.throws("table of options", ts.start, "modules")
    local cases = {
        { {}, "modules", "missing" }, { { modules = 1 }, "modules", "string" },
        { { modules = fixtures, module = "x" }, "module", "no option" },
        { { modules = fixtures, [1] = "x" }, "1", "no option" },
        { { modules = fixtures, library = true }, "library", "string" },
        { { modules = fixtures, libnode = 5 }, "libnode", "string" },
        { { modules = fixtures, host = {} }, "host", "string" },
        { { modules = fixtures, runtime_dir = 1 }, "runtime_dir", "string" },
        { { modules = fixtures, privileged_agent = 1 }, "privileged_agent", "boolean" },
        { { modules = fixtures, ring_bytes = 5000 }, "ring_bytes", "power of two" },
        { { modules = fixtures, inspect = "0.0.0.0:9229" }, "inspect", "loopback" },
        { { modules = fixtures, inspect = "localhost.example:9229" }, "inspect", "loopback" },
        { { modules = fixtures, inspect = "127.0.0.1" }, "inspect", "with a port" },
        { { modules = fixtures, inspect = "127.0.0.1:70000" }, "inspect", "with a port" },
        { { modules = fixtures, inspect = "127.0.0.1:9229", shared = true }, "inspect", "share" },
        { { modules = fixtures, first_cursor = 4 }, "first_cursor", "multiple of 8" },
    }
    local limits = {
        timeout_ms = { 0, 86400001 }, sync_timeout_ms = { 0, 60001 },
        start_timeout_ms = { 0, 600001 }, max_pending = { 0, 65536 },
        ring_bytes = { 2048, 2 ^ 31 }, max_message_bytes = { 4095, 2 ^ 30 + 1 },
        spin_us = { -1, 10001 }, first_cursor = { -8, 2 ^ 32 },
    }
    for name, bad in pairs(limits) do
        for _, value in ipairs { bad[1], bad[2], 1.5, 0 / 0, 1 / 0, "5", true } do
            cases[#cases + 1] = { { modules = fixtures, [name] = value }, name,
                                  type(value) == "number" and "whole number" or "number" }
        end
    end
    for _, case in ipairs(cases) do
        local err = t.err("bad_option", ts.start(case[1]))
        t.match(err, "^bad option: ", case[2])
        t.match(err, case[2])
        t.match(err, case[3], case[2])
    end
    t.err("not_started", ts.stats())
end)

t.test("a libnode that is not there is no_libnode, with its path", function()
    local libnode = "/nowhere/libnode.so.108"
    t.match(t.err("no_libnode", ts.start { modules = fixtures, libnode = libnode }),
            "/nowhere/libnode%.so%.108")
end)

t.test("a file that is no library is no_libnode, with its path", function()
    local err = t.err("no_libnode", ts.start { modules = fixtures, libnode = "/etc/passwd" })
    t.match(err, "/etc/passwd")
end)

t.test("a library without a backend is wrong_abi, with the ABIs there are", function()
    local libm = "/lib/x86_64-linux-gnu/libm.so.6"
    local file = io.open(libm)
    if not file then
        t.skip("no " .. libm)
    end
    file:close()
    local err = t.err("wrong_abi", ts.start { modules = fixtures, libnode = libm })
    t.match(err, "libm%.so%.6")
    t.match(err, "ABI 6")
    t.match(err, "108")
end)

t.test("a host that is not there is no_host, with its path", function()
    t.match(t.err("no_host", ts.start { modules = fixtures, host = "/nowhere/host.cjs" }),
            "/nowhere/host%.cjs")
end)

t.test("a host that throws or is no host is an error that says so", function()
    local folder = support.temporary_folder()
    support.write(folder .. "/throws.cjs", "throw new Error('no host today');")
    support.write(folder .. "/syntax.cjs", "this is (")
    support.write(folder .. "/empty.cjs", "")
    for name, pattern in pairs { throws = "no host today", syntax = "SyntaxError",
                                 empty = "main" } do
        local host = folder .. "/" .. name .. ".cjs"
        local ok, err, code = ts.start { modules = fixtures, host = host }
        t.eq(ok, nil, name)
        t.ok(code == "unavailable" or code == "no_host", name .. ": " .. tostring(code))
        t.match(err, pattern, name)
    end
    support.remove_folder(folder)
end)

t.test("a host that never gets ready is start_timeout, at the deadline", function()
    local folder = support.temporary_folder()
    support.write(folder .. "/waits.cjs", "exports.main = () => { setInterval(() => {}, 1e6) };")
    support.write(folder .. "/spins.cjs", "exports.main = () => { for (;;); };")
    for _, name in ipairs { "waits", "spins" } do
        local err = t.err("start_timeout", ts.start {
            modules = fixtures, host = folder .. "/" .. name .. ".cjs", start_timeout_ms = 300,
        })
        t.match(err, "300 ms")
    end
    support.remove_folder(folder)
end)

t.test("after all these failures it starts", function()
    t.eq(ts.start { modules = fixtures }, true)
    t.eq(ts.import("calls.ts").add(1, 2), 3)
end)

t.test("starting twice is already_started, and changes nothing", function()
    t.err("already_started", ts.start { modules = fixtures })
    t.err("bad_option", ts.start {})
    t.eq(ts.import("calls.ts").add(1, 2), 3)
end)

t.test("stats tell what runs", function()
    local stats = ts.stats()
    t.eq(stats.state, "ready")
    t.eq(stats.abi, 108)
    t.match(stats.node_version, "^v?18%.")
    t.match(stats.backend, "^/.*libresty_ts_node108%.so$")
    t.match(stats.libnode, "libnode%.so")
    t.eq(stats.pending, 0)
    t.ok(stats.calls >= 2 and stats.completed >= 2)
    t.eq(stats.calls, stats.completed + stats.failed + stats.timeouts)
    t.eq(stats.ring_bytes, 1048576)
end)

t.test("after a stop calls say so, and it starts again, with a fresh module", function()
    local calls = ts.import("calls.ts")
    t.eq(calls.note("before"), nil)
    for round = 1, 5 do
        t.eq(ts.stop(), true)
        t.eq(ts.stats().state, "stopped")
        t.err("stopped", calls.add(1, 2))
        t.err("stopped", ts.call_sync(calls.add, 10, 1, 2))
        t.err("stopped", ts.notify(calls.add, 1, 2))
        t.eq(ts.stop(), true, "a second stop")
        t.eq(ts.start { modules = fixtures }, true)
        t.eq(calls.add(round, 2), round + 2)
        t.eq(calls.notesTaken(), ts.array {})
        t.eq(calls.note(round), nil)
    end
end)

t.test("a stop fails the calls in flight, and their coroutines go on", function()
    local calls = ts.import("calls.ts")
    local seen = {}
    for i = 1, 5 do
        coroutine.wrap(function()
            local _, _, code = calls.never()
            seen[i] = code
        end)()
    end
    t.eq(ts.stats().pending, 5)
    t.eq(ts.stop(), true)
    ts.poll(0)
    t.eq(seen, { "stopped", "stopped", "stopped", "stopped", "stopped" })
    t.eq(ts.stats().pending, 0)
end)

t.test("a stop ends an endless loop", function()
    t.eq(ts.start { modules = fixtures }, true)
    local calls = ts.import("calls.ts")
    t.err("timeout", ts.call(calls.spinForever, { timeout_ms = 100 }))
    t.eq(ts.stop(5000), true)
    t.eq(ts.stats().state, "stopped")
end)

t.test("a folder of modules that is not there shows in the call", function()
    local ok, err, code = ts.start { modules = "/nowhere/modules" }
    if ok then
        t.match(t.err("module_not_found", ts.import("calls.ts").add(1, 2)), "/nowhere/modules")
        t.eq(ts.stop(), true)
    else
        t.eq(code, "bad_option")
        t.match(err, "/nowhere/modules")
    end
end)

t.test("the environment's end is an error in words, and another one begins", function()
    t.eq(ts.start { modules = fixtures }, true)
    local calls = ts.import("calls.ts")
    t.match(t.err("exited", calls.exit(7)), "7")
    t.eq(calls.add(1, 2), 3)
    t.eq(ts.stats().state, "ready")
    t.eq(ts.stats().lives, 2)
    t.eq(ts.stats().exited, 1)
    t.eq(ts.stop(), true)
    t.eq(ts.start { modules = fixtures }, true)
    t.eq(calls.add(1, 2), 3)
    t.err("exited", calls.uncaught())
    t.eq(ts.stop(), true)
end)

t.test("a library that is not ours is an error, not a raise", function()
    -- In a process of its own, as a library is loaded once.
    local script = support.fixtures .. "/wrong_library.lua"
    local verdict, text = support.run(script)
    t.eq(verdict, "exit 0", text)
    t.match(text, "libm%.so%.6")
    t.match(text, "nowhere/libresty_ts%.so")
end)

t.done()
