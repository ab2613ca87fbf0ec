-- How a process ends, in each state of the runtime: by itself, by an error, by a signal. Exit
-- status and signal must be what they would be without Node in it.
local t = require "tap"
local support = require "support"

local script = support.fixtures .. "/life.lua"
local STATES = { "never", "ready", "called", "pending", "timer", "busy", "child", "stopped",
                 "restarted", "exited", "refused", "timeout" }
local WAYS = { ["end"] = "exit 0", exit = "exit 5", ["exit-close"] = "exit 6",
               error = "exit 1" }
-- luajit's own program catches SIGINT and leaves with an error.
local SIGNALS = { TERM = { 15, "signal 15" }, KILL = { 9, "signal 9" }, INT = { 2, "exit 1" },
                  QUIT = { 3, "signal 3" }, USR1 = { 10, "signal 10" } }

for _, state in ipairs(STATES) do
    for way, want in pairs(WAYS) do
        t.test(("a process that is %s and leaves by %s ends with %s"):format(state, way, want),
               function()
            local verdict, text = support.run(script, state, way, support.fixtures)
            t.eq(verdict, want, text)
            t.match(text, "now")
            if way == "error" then
                t.match(text, "on purpose")
            end
        end)
    end
end

for _, state in ipairs { "never", "starting", "ready", "pending", "busy", "child", "stopped",
                         "exited" } do
    for name, signal in pairs(SIGNALS) do
        local title = "a process that is %s and gets SIG%s ends with %s"
        t.test(title:format(state, name, signal[2]), function()
            local child = support.spawn(script, state, "wait", support.fixtures)
            t.ok(support.wait_for_line(child, "now"), "got there")
            support.kill(child, signal[1])
            local verdict, text = support.wait(child)
            t.eq(verdict, signal[2], text)
        end)
    end
end

t.done()
