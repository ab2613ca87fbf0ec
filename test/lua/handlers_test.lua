-- What handlers may use: all of Node.
local t = require "tap"
local support = require "support"

local ts = support.start { modules = support.fixtures .. "/modules" }
local work = ts.import("work.ts")

local function each_way(f)
    f()
    support.together(ts, f, f, f)
end

t.test("timers and microtasks run", function()
    each_way(function()
        t.eq(work.timers(), ts.array { "microtask", "immediate", "timeout" })
    end)
end)

t.test("fetch talks to an HTTP server of the same process", function()
    each_way(function()
        local answer, err = work.fetchSelf("body ü")
        t.eq(err, nil)
        t.eq(answer, { status = 200, method = "POST", body = "body ü" })
    end)
end)

t.test("fetch heeds an AbortSignal", function()
    t.eq(work.abortsFetch(50), "TimeoutError")
end)

t.test("node:crypto hashes and makes random bytes", function()
    t.eq(work.hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    t.eq(#tostring(work.random(32)), 32)
end)

t.test("node:fs writes and reads", function()
    each_way(function()
        t.eq(work.file("contents"), "contents")
    end)
end)

t.test("node:zlib compresses", function()
    t.eq(work.zip(("x"):rep(1000)), ("x"):rep(1000))
end)

t.test("worker_threads run", function()
    each_way(function()
        t.eq(work.worker(21), 42)
    end)
end)

t.test("child_process runs and reaps", function()
    each_way(function()
        t.eq(work.child("hello"), "hello\n")
        t.eq(work.childCode(7), { exit = 7, signal = ts.null })
    end)
    local zombies = assert(io.popen("ps --ppid $PPID -o stat= | grep -c Z")):read("*n")
    t.eq(zombies, 0)
end)

t.test("a child of Lua's own and one of a handler's are both reaped", function()
    for _ = 1, 5 do
        local child
        coroutine.wrap(function()
            child = work.child("from TypeScript")
        end)()
        local pipe = assert(io.popen("echo from Lua; exit 3"))
        t.eq(pipe:read("*l"), "from Lua")
        pipe:close()
        t.eq(os.execute("exit 4"), 4 * 256)
        for _ = 1, 100 do
            if child then
                break
            end
            ts.poll(50)
        end
        t.eq(child, "from TypeScript\n")
    end
end)

t.test("a native package loads, beside the binding of ours", function()
    local value, err = work.nativePackage(support.root .. "build/Release/resty_ts.node")
    t.eq(err, nil)
    t.eq(value, 8192)
end)

t.test("what belongs to the process is not a handler's to change", function()
    t.match(t.err("handler_failed", work.chdir()), "chdir")
end)

t.test("all of that works after a restart, too", function()
    t.ok(ts.stop())
    support.start { modules = support.fixtures .. "/modules" }
    t.eq(work.worker(1), 2)
    t.eq(work.child("x"), "x\n")
    t.eq(work.fetchSelf("y").body, "y")
    t.eq(work.nativePackage(support.root .. "build/Release/resty_ts.node"), 8192)
end)

ts.stop()
t.done()
