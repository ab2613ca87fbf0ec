-- The corpus of the fuzzers through Lua's decoders, by themselves: each record is delivered, or the
-- channel is broken with a reason. test/ts/fuzz-corpus.test.ts compares the outcomes.
local support = require "support"
package.path = support.root .. "test/fuzz/?.lua;" .. package.path
local drain = require "drain"
local t = require "tap"

t.test("each input of the corpus is read, and nothing past its end", function()
    local names = assert(io.popen("ls '" .. support.root .. "test/fuzz/corpus'"))
    local count, broken = 0, 0
    for name in names:lines() do
        local outcome = drain.run(support.read(support.root .. "test/fuzz/corpus/" .. name))
        t.match(outcome, "%w$", name)
        count = count + 1
        broken = broken + (outcome:find("broken$") and 1 or 0)
    end
    names:close()
    t.ok(count >= 10, "enough of them")
    t.ok(broken > 0 and broken < count, "some are broken, some are not")
end)

t.done()
