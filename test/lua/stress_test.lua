-- The stress run of test/stress, shorter: all answers, once, to their own callers.
local t = require "tap"
local support = require "support"

local script = support.root .. "test/stress/run.lua"
local calls = os.getenv("RTS_STRESS_CALLS") or "200000"

for _, first_cursor in ipairs { "0", "4294901760" } do
    t.test(calls .. " calls are each answered once, by their own answer, with cursors from "
           .. first_cursor, function()
        local child = support.spawn(script, calls, "1000", first_cursor)
        local verdict, text = support.wait(child, 600000)
        t.eq(verdict, "exit 0", text)
        print("# " .. text:gsub("%s+$", ""):gsub("\n", "\n# "))
    end)
end

t.done()
