-- How long nginx's worker may block for answers that do not come. Needs no runtime and no nginx.
local t = require "tap"

local clock = 5
_G.ngx = { now = function() return clock end } -- luacheck: ignore 122
package.loaded["resty.ts.wait"] = { in_nginx = true }
local blocking = require "resty.ts.blocking"

t.test("calls of one turn of nginx's loop block in vain for twice their deadline", function()
    local blocked = 0
    for _ = 1, 1000 do
        local ms = blocking.call_ms(20)
        if ms > 0 then
            blocking.in_vain(ms)
        end
        blocked = blocked + ms
    end
    t.eq(blocked, 40)
    t.eq(blocking.call_ms(20), 0)
    t.eq(blocking.call_ms(1000), 960) -- a longer deadline has what is left of it
end)

t.test("one that was short of its deadline leaves the others little, not nothing", function()
    clock = clock + 1
    blocking.in_vain(20)
    t.eq(blocking.call_ms(20), 1)
end)

t.test("others are served for as long before a call has its whole deadline again", function()
    clock = clock + 1
    t.eq(blocking.call_ms(20), 20)
    blocking.in_vain(20)
    clock = clock + 0.020 -- for which it has blocked
    t.eq(blocking.call_ms(20), 1)
    t.eq(blocking.call_ms(100), 80)
    clock = clock + 0.005
    t.eq(blocking.call_ms(20), 5)
    blocking.in_vain(5) -- this one keeps nobody short
    t.eq(blocking.call_ms(20), 10)
    clock = clock + 0.015
    t.eq(blocking.call_ms(20), 20)
end)

t.test("starts that come to nothing block for two seconds in all, until one has come to something",
       function()
    t.eq(blocking.start_ms(), 2000)
    blocking.spend_start(1500)
    t.eq(blocking.start_ms(), 500)
    blocking.spend_start(1500)
    t.eq(blocking.start_ms(), 0)
    blocking.started()
    t.eq(blocking.start_ms(), 2000)
end)

t.done()
