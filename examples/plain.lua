-- The same in plain LuaJIT, with no nginx. From the project's root:
--   LUA_PATH="lua/?.lua;;" luajit examples/plain.lua
local ts = require "resty.ts"

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local pwd = assert(io.popen("pwd")):read("*l")
local modules = here:sub(1, 1) == "/" and here or pwd .. "/" .. here

assert(ts.start { modules = modules })
local calc = ts.import("calc.ts")
print("1 + 2 = " .. assert(calc.add(1, 2)))

-- In coroutines calls overlap: both handlers wait at once.
local web = ts.import("fetch.ts")
for _, ms in ipairs { 20, 10 } do
    coroutine.wrap(function()
        print((assert(web.wait(ms))))
    end)()
end
while ts.stats().pending > 0 do
    ts.poll(100)
end
ts.stop()
